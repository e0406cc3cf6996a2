"""Refuses checkpoints that would run code: an index names its checkpoint, and an index may come from anyone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

#: Modules that Sentence Transformers may load, PyLate's among them by another name.
_MODULES = re.compile(r"(?:sentence_transformers|pylate)(?:\.[A-Za-z_][0-9A-Za-z_]*)+", re.ASCII)
#: Modules that name further modules.
_CONTAINERS = ("Router", "Asym")
#: Settings of Japanese tokenizers that name files, and options of other programs.
_TOKENIZER_PATHS = {
    "mecab_kwargs": ("mecab_option",),
    "sudachi_kwargs": ("sudachi_config_path", "sudachi_resource_dir"),
    "jumanpp_kwargs": ("executable", "options"),
}


def check_no_code(name: str, read_json: Callable[[str], Any]) -> None:
    """Checks that a checkpoint names nothing that would be imported from elsewhere or run.

    ``auto_map`` is transformers' own matter, which runs nothing without ``trust_remote_code``, and weights are read
    without unpickling objects.

    Args:
        name: of the checkpoint.
        read_json: returns the content of a JSON file of the checkpoint, or None if it has none.

    Raises:
        ValueError: it does, or a file has another form.
    """
    modules = read_json("modules.json")
    for module in modules if isinstance(modules, list) else [] if modules is None else [None]:
        kind, path = (module.get(key) for key in ("type", "path")) if isinstance(module, dict) else (None, None)
        if not isinstance(kind, str) or not _MODULES.fullmatch(kind) or kind.endswith(_CONTAINERS):
            raise _refused(name, f"its modules.json names the module {kind!r}, which is none of Sentence Transformers'")
        if not isinstance(path, str) or ".." in path.split("/") or "\\" in path or path.startswith("/"):
            raise _refused(name, f"its modules.json names the folder {path!r}")
    for key, value in _settings(read_json("config.json")):
        if key.lstrip("_").startswith(("attn_implementation", "experts_implementation")) and "/" in str(value):
            raise _refused(name, f"its config.json takes kernels from {value!r}")
    tokenizer = read_json("tokenizer_config.json")
    for group, keys in _TOKENIZER_PATHS.items():
        settings = (tokenizer if isinstance(tokenizer, dict) else {}).get(group) or {}
        for key in keys:
            if not isinstance(settings, dict) or settings.get(key) is not None:
                raise _refused(name, f"its tokenizer_config.json sets {group}.{key}")


def refusal_of(name: str, error: ValueError) -> ValueError | None:
    """Returns the error of a checkpoint that a library refuses to load because it brings code, or None."""
    return _refused(name, "it brings code of its own") if "trust_remote_code" in str(error) else None


def _settings(content: Any) -> Iterator[tuple[str, Any]]:
    """Yields all settings of a configuration, also those of its parts."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield key, value
            yield from _settings(value)


def _refused(name: str, reason: str) -> ValueError:
    return ValueError(
        f"The checkpoint {name!r} is not loaded: {reason}, and nothing of a checkpoint is run; use one whose classes "
        "Sentence Transformers and transformers have."
    )
