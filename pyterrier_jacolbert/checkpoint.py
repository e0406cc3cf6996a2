"""Checkpoints: found, checked to be a trained ColBERT, loaded by Sentence Transformers."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sentence_transformers import MultiVectorEncoder

#: ``model_type`` in ``config_sentence_transformers.json`` of Sentence Transformers' and PyLate's multi-vector models.
_MULTI_VECTOR_TYPES = ("MultiVectorEncoder", "ColBERT")

#: The name of the checkpoint that ships with the package, and its folder.
MINI = "mini"
_MINI_FOLDER = Path(__file__).parent / "mini"


def load_checkpoint(name: str, revision: str | None = None, device: str | None = None) -> MultiVectorEncoder:
    """Loads a multi-vector checkpoint: Stanford ColBERT's layout, PyLate's, or Sentence Transformers' own.

    Args:
        name: a folder, a name on the Hugging Face hub, or ``"mini"``, the checkpoint that ships with the package.
        revision: the hub revision (branch, tag or commit).
        device: where to load it; None takes a GPU if there is one.

    Raises:
        FileNotFoundError: the folder does not exist, or the hub cannot be reached and holds no local copy.
        ValueError: it is not a ColBERT checkpoint; loading it would add an untrained projection.
        ImportError: its Japanese tokenizer needs a package that is not installed.
    """
    if name == MINI:
        name = str(_MINI_FOLDER)
    check_folder(name)
    files = {file: _read_json(name, revision, file) for file in ("config.json", "config_sentence_transformers.json")}
    if all(content is None for content in files.values()):
        raise _not_found(name)
    _check_trained(name, files["config.json"] or {}, files["config_sentence_transformers.json"] or {})
    _check_tokenizer(name, _read_json(name, revision, "tokenizer_config.json") or {})
    from sentence_transformers import MultiVectorEncoder

    try:
        with _quiet_transformers():
            return MultiVectorEncoder(name, revision=revision, device=device)
    except KeyError as error:
        if error.args == ("linear.weight",):
            raise _not_colbert(name, "its weights have no 'linear.weight'") from None
        raise
    except OSError as error:
        if os.path.isdir(name):
            raise
        raise _not_found(name) from error


def check_folder(name: str) -> None:
    """Checks that a name which can only be a folder names one.

    Raises:
        FileNotFoundError: it does not.
    """
    looks_like_path = name.startswith((".", "~", os.sep)) or name.count("/") > 1 or os.sep != "/" and os.sep in name
    if looks_like_path and not os.path.isdir(name):
        raise FileNotFoundError(f"There is no checkpoint folder {name!r}; give the path of a folder with config.json.")


def fingerprint(model: MultiVectorEncoder) -> str:
    """A short digest of the weights, to tell one checkpoint from another.

    It reads up to 1,024 evenly spaced values of every tensor, so it takes milliseconds; it is no checksum of files. The
    pooler of a BERT is left out: no token vector depends on it, and where a checkpoint has none it is drawn at random.
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
def without_bars() -> Iterator[None]:
    """Keeps transformers from drawing progress bars, of a second and less, while it loads or saves."""
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call] # transformers has no types here
    try:
        yield
    finally:
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keeps transformers from reporting the projection, which Sentence Transformers loads, as an unexpected weight."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call] # transformers has no types here
    try:
        with without_bars():
            yield
    finally:
        logging.set_verbosity(verbosity)


def _read_json(name: str, revision: str | None, file: str) -> dict[str, Any] | None:
    from sentence_transformers.util import load_file_path

    try:
        path = load_file_path(name, file, revision=revision)
    except OSError as error:
        raise _not_found(name) from error
    return None if path is None else json.loads(Path(path).read_text(encoding="utf-8"))


def _check_trained(name: str, config: dict[str, Any], st_config: dict[str, Any]) -> None:
    architectures = config.get("architectures") or []
    if "HF_ColBERT" in architectures or any(entry.endswith("ForRetrieval") for entry in architectures):
        return
    # PyLate before its version 3 wrote no model_type, but always the markers it puts before texts.
    if st_config.get("model_type") in _MULTI_VECTOR_TYPES or "query_prefix" in st_config:
        return
    kind = st_config.get("model_type") or (architectures[0] if architectures else "model")
    raise _not_colbert(name, f"it is a {kind} without a token projection")


def _check_tokenizer(name: str, config: dict[str, Any]) -> None:
    # Asked here because transformers, when MeCab is missing, says that the checkpoint has no known tokenizer.
    if config.get("tokenizer_class") != "BertJapaneseTokenizer" or config.get("word_tokenizer_type") != "mecab":
        return
    dictionary = (config.get("mecab_kwargs") or {}).get("mecab_dic") or "unidic_lite"
    missing = [package for package in ("fugashi", dictionary) if importlib.util.find_spec(package) is None]
    if missing:
        names = " ".join(package.replace("_", "-") for package in missing)
        raise ImportError(f"The tokenizer of {name!r} needs MeCab and its dictionary: pip install {names}")


def _not_colbert(name: str, reason: str) -> ValueError:
    return ValueError(
        f"{name!r} is not a ColBERT checkpoint: {reason}, and an untrained one would give random rankings; "
        "name a ColBERT checkpoint (e.g. answerdotai/JaColBERTv2.5) or pass a MultiVectorEncoder built on purpose."
    )


def _not_found(name: str) -> FileNotFoundError:
    return FileNotFoundError(
        f"The checkpoint {name!r} is not on this machine, and the Hugging Face hub cannot be reached or has no such "
        f"model; where there is a network, run `hf download {name} --local-dir FOLDER`, and give FOLDER in its place."
    )
