"""Reads the weight files of a checkpoint: safetensors or PyTorch's own format, whole or in shards."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from sentence_transformers.util import load_file_path

#: Names that training frameworks put between the parts of a name: data parallelism, torch.compile, FSDP, checkpointing.
_WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
#: Names under which training code keeps a model as an attribute; they may precede the names of its weights.
_OWNERS = (
    *("model", "backbone", "encoder", "transformer", "base_model", "auto_model", "colbert", "student", "0"),
    *("bert", "roberta", "deberta", "electra", "albert", "luke", "distilbert", "llama"),
)
#: Matches wrappers anywhere in a name.
WRAPPER_PATTERN = rf"(?<![^.])(?:(?:{'|'.join(_WRAPPERS)})\.)+"


class WeightFiles:
    """Weight files of a checkpoint or of a module within it, in the order in which transformers looks for them.

    Args:
        name: folder or hub name of the checkpoint.
        subfolder: folder of the module within the checkpoint.
        revision: hub revision.

    Attributes:
        files: paths of the files; empty if there are none.

    Raises:
        FileNotFoundError: an index names a shard that does not exist.
        ValueError: an index is damaged.
    """

    def __init__(self, name: str, subfolder: str = "", revision: str | None = None) -> None:
        self._name, self._subfolder, self._revision = name, subfolder, revision
        self.files: list[str] = []
        for file in ("model.safetensors", "pytorch_model.bin"):
            if (path := self._find(file)) is not None:
                self.files = [path]
            elif (index := self._find(f"{file}.index.json")) is not None:
                self.files = [self._find_shard(shard, index) for shard in _shards(index)]
            if self.files:
                return

    def names(self) -> list[str]:
        """Returns the sorted names of the tensors.

        Raises:
            ValueError: a file is damaged.
        """
        return sorted(name for file in self.files for name in _tensor_names(file))

    def read(self, names: Iterable[str]) -> dict[str, torch.Tensor]:
        """Reads tensors by name, and no others.

        Raises:
            ValueError: a file is damaged.
        """
        wanted = set(names)
        tensors: dict[str, torch.Tensor] = {}
        for file in self.files:
            tensors.update(_read_tensors(file, wanted))
        return tensors

    def _find(self, file: str) -> str | None:
        path: str | None = load_file_path(self._name, file, subfolder=self._subfolder, revision=self._revision)
        return path

    def _find_shard(self, shard: str, index: str) -> str:
        path = self._find(shard)
        if path is None:
            raise FileNotFoundError(
                f"The checkpoint {self._name!r} lacks {shard}, one of the files of weights that {index} lists; copy or "
                "download the checkpoint again."
            )
        return path


def match_names(missing: Iterable[str], found: Iterable[str]) -> dict[str, list[str]]:
    """Finds weights that are stored under a known prefix, such as ``module.bert.``.

    Args:
        missing: names that the model needs.
        found: names in the files.

    Returns:
        For each needed name that was found: its names in the files; more than one if it is ambiguous.
    """
    wanted, matches = set(missing), dict[str, list[str]]()
    for name in found:
        parts = strip_wrappers(name).split(".")
        n_owners = next((i for i, part in enumerate(parts) if part not in _OWNERS), len(parts))
        rests = (".".join(parts[start:]) for start in range(n_owners + 1))
        if rest := next((rest for rest in rests if rest in wanted), None):
            matches.setdefault(rest, []).append(name)
    return matches


def strip_wrappers(name: str) -> str:
    """Removes the names of wrappers, wherever they stand: ``bert._orig_mod.encoder`` becomes ``bert.encoder``."""
    return re.sub(WRAPPER_PATTERN, "", name)


def shorten(names: Iterable[str], limit: int = 6) -> str:
    """Lists names in a message, the first few of them if there are many."""
    ordered = sorted(names)
    listed = ", ".join(repr(name) for name in ordered[:limit])
    return listed if len(ordered) <= limit else f"{listed} and {len(ordered) - limit} more"


def read_json(path: str | Path) -> Any:
    """Reads a JSON file of a checkpoint.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); copy or download the checkpoint again.") from error


def _shards(index: str) -> list[str]:
    content = read_json(index)
    if not isinstance(content, dict) or not isinstance(content.get("weight_map"), dict):
        raise ValueError(f"{index} is damaged (it has no weight_map); copy or download the checkpoint again.")
    return sorted(set(content["weight_map"].values()))


def _tensor_names(file: str) -> list[str]:
    try:
        if not file.endswith(".safetensors"):
            return list(_load_pytorch(file))
        with safe_open(file, framework="pt") as tensors:
            return list(tensors.keys())
    except (SafetensorError, OSError) as error:
        raise _damaged_error(file, error) from error


def _read_tensors(file: str, names: set[str]) -> dict[str, torch.Tensor]:
    try:
        if not file.endswith(".safetensors"):
            return {name: tensor for name, tensor in _load_pytorch(file).items() if name in names}
        with safe_open(file, framework="pt") as tensors:
            return {name: tensors.get_tensor(name) for name in tensors.keys() if name in names}
    except (SafetensorError, OSError) as error:
        raise _damaged_error(file, error) from error


def _load_pytorch(file: str) -> dict[str, Any]:
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own message advises to run the code in the file.
        raise _damaged_error(file, ValueError("it does not hold tensors alone")) from error
    except (RuntimeError, EOFError) as error:
        raise _damaged_error(file, error) from error
    if not isinstance(content, dict):
        raise _damaged_error(file, TypeError(f"it holds a {type(content).__name__}, not tensors by name"))
    return {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}


def _damaged_error(file: str, error: Exception) -> ValueError:
    reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    return ValueError(f"The weights in {file} are damaged ({reason}); copy or download the checkpoint again.")
