"""Locates ColBERT checkpoints, checks that they are trained and loads them with Sentence Transformers."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyterrier_jacolbert.encoding.foreign_code import check_no_code, refusal_of
from pyterrier_jacolbert.index.threads import lock_of

if TYPE_CHECKING:
    from sentence_transformers import MultiVectorEncoder

#: ``model_type`` of multi-vector models in ``config_sentence_transformers.json``: Sentence Transformers' and PyLate's.
_MULTI_VECTOR_TYPES = ("MultiVectorEncoder", "ColBERT")

#: Name and folder of the checkpoint that ships with the package.
MINI = "mini"
_MINI_FOLDER = Path(__file__).parents[1] / "mini"


def load_checkpoint(name: str, revision: str | None = None, device: str | None = None) -> MultiVectorEncoder:
    """Loads a multi-vector checkpoint in Stanford ColBERT's, PyLate's or Sentence Transformers' own layout, in float32.

    The weights may be in any floating-point type, whole or in shards, and their names may start with a prefix of the
    training code (``module.``, ``_orig_mod.``, ``bert.``, ...).

    Args:
        name: folder, name on the Hugging Face hub, or ``"mini"`` for the checkpoint that ships with the package.
        revision: hub revision (branch, tag or commit).
        device: device to load the checkpoint on; None chooses a GPU if one is available.

    Raises:
        FileNotFoundError: the folder does not exist, or the hub is unreachable and has left no local copy.
        ValueError: the checkpoint is not a ColBERT checkpoint, so loading it would add an untrained projection; or its
            weights do not cover the model, or are damaged.
        ImportError: the checkpoint's Japanese tokenizer needs a package that is not installed.
    """
    if name == MINI:
        name = str(_MINI_FOLDER)
    check_folder(name)
    files = {file: _read_json(name, revision, file) for file in ("config.json", "config_sentence_transformers.json")}
    if all(content is None for content in files.values()):
        raise not_found_error("checkpoint", name)
    check_no_code(name, lambda file: _read_json(name, revision, file))
    for file in files:
        if not isinstance(files[file] or {}, dict):
            raise ValueError(f"{file} of {name!r} is damaged (it is not an object); copy or download it again.")
    _check_trained(name, files["config.json"] or {}, files["config_sentence_transformers.json"] or {})
    _check_tokenizer(name, _read_json(name, revision, "tokenizer_config.json") or {})
    from pyterrier_jacolbert.encoding.loading import load_encoder

    try:
        # Loading changes settings of transformers for its duration, so only one thread may load at a time.
        with lock_of(load_checkpoint), _quiet_transformers():
            return load_encoder(name, revision, device)
    except json.JSONDecodeError:
        _check_json_files(name)
        raise
    except KeyError as error:
        if error.args == ("linear.weight",):
            raise _not_colbert_error(name, "its weights have no 'linear.weight'") from None
        raise
    except ValueError as error:
        if refusal := refusal_of(name, error):
            raise refusal from None
        raise
    except OSError as error:
        if os.path.isdir(name):
            raise
        raise not_found_error("checkpoint", name) from error


def check_available(kind: str, name: str) -> None:
    """Checks that a model is on this machine or on the hub, without loading it.

    Args:
        kind: what the model is, such as ``"checkpoint"``, for the message.
        name: folder or hub name; ``"mini"`` is always there.

    Raises:
        FileNotFoundError: it is not.
    """
    if name == MINI and kind == "checkpoint":
        return
    check_folder(name)
    try:
        found = any(_read_json(name, None, file) for file in ("config.json", "config_sentence_transformers.json"))
    except FileNotFoundError:
        found = False
    if not found:
        raise not_found_error(kind, name)


def check_folder(name: str) -> None:
    """Checks that a name that looks like a path is the path of a folder.

    Raises:
        FileNotFoundError: the name looks like a path, and no such folder exists.
    """
    looks_like_path = name.startswith((".", "~", os.sep)) or name.count("/") > 1 or os.sep != "/" and os.sep in name
    if looks_like_path and not os.path.isdir(name):
        raise FileNotFoundError(f"There is no checkpoint folder {name!r}; give the path of a folder with config.json.")


def fingerprint(model: MultiVectorEncoder) -> str:
    """Returns a short digest of the weights, which distinguishes one checkpoint from another.

    The digest samples up to 1,024 evenly spaced values per tensor, so it takes milliseconds; it is not a checksum of
    the files. BERT's pooler is excluded: no token vector depends on it, and checkpoints without one get random weights.
    """
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if ".pooler." in name:
            continue
        values = tensor.detach().flatten()
        sample = values[:: max(1, values.numel() // 1024)].to("cpu", torch.float32)
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(sample.numpy().tobytes())
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def without_progress_bars() -> Iterator[None]:
    """Hides the progress bars, of a second or less, that transformers draws while it loads or saves."""
    from transformers.utils import logging

    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call] # transformers has no types here
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Stops transformers from reporting the projection, which Sentence Transformers loads, as an unexpected weight."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call] # transformers has no types here
    try:
        with without_progress_bars():
            yield
    finally:
        logging.set_verbosity(verbosity)


def _read_json(name: str, revision: str | None, file: str) -> Any:
    from sentence_transformers.util import load_file_path

    try:
        path = load_file_path(name, file, revision=revision)
    except OSError as error:
        raise not_found_error("checkpoint", name) from error
    if path is None:
        return None
    from pyterrier_jacolbert.encoding.weight_files import read_json

    return read_json(path)


def _check_json_files(folder: str) -> None:
    from pyterrier_jacolbert.encoding.weight_files import read_json

    for path in sorted(Path(folder).rglob("*.json")):
        read_json(path)


def _check_trained(name: str, config: dict[str, Any], st_config: dict[str, Any]) -> None:
    architectures = config.get("architectures") or []
    if "HF_ColBERT" in architectures or any(entry.endswith("ForRetrieval") for entry in architectures):
        return
    # PyLate wrote no model_type before version 3, but it has always written the markers that precede texts.
    if st_config.get("model_type") in _MULTI_VECTOR_TYPES or "query_prefix" in st_config:
        return
    kind = st_config.get("model_type") or (architectures[0] if architectures else "model")
    raise _not_colbert_error(name, f"it is a {kind} without a token projection")


def _check_tokenizer(name: str, config: dict[str, Any]) -> None:
    # Without MeCab, transformers reports that the checkpoint has no known tokenizer, which would mislead.
    if config.get("tokenizer_class") != "BertJapaneseTokenizer" or config.get("word_tokenizer_type") != "mecab":
        return
    dictionary = (config.get("mecab_kwargs") or {}).get("mecab_dic") or "unidic_lite"
    missing = [package for package in ("fugashi", dictionary) if importlib.util.find_spec(package) is None]
    if missing:
        names = " ".join(package.replace("_", "-") for package in missing)
        raise ImportError(f"The tokenizer of {name!r} needs MeCab and its dictionary: pip install {names}")


def _not_colbert_error(name: str, reason: str) -> ValueError:
    return ValueError(
        f"{name!r} is not a ColBERT checkpoint: {reason}, and an untrained projection would give random rankings; "
        "name a ColBERT checkpoint (e.g. answerdotai/JaColBERTv2.5) or pass a MultiVectorEncoder of your own."
    )


def not_found_error(kind: str, name: str) -> FileNotFoundError:
    """Returns the error of a model that is neither on this machine nor on the hub.

    Args:
        kind: what the model is, such as ``"checkpoint"``.
        name: its folder or hub name.
    """
    return FileNotFoundError(
        f"The {kind} {name!r} is not on this machine, and the Hugging Face hub is unreachable or has no such "
        f"model; run `hf download {name} --local-dir FOLDER` on a machine with network access, and pass FOLDER instead."
    )
