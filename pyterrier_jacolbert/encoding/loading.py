"""Loads a MultiVectorEncoder in float32, and refuses one whose files do not hold all of its weights."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.base.modules.module import Module
from transformers import PreTrainedModel

from pyterrier_jacolbert.encoding.weight_files import (
    WRAPPER_PATTERN,
    WeightFiles,
    match_names,
    shorten,
    strip_wrappers,
)

#: Errors of the libraries that a damaged or missing file may cause.
_FILE_ERRORS = (SafetensorError, OSError, RuntimeError, EOFError, pickle.UnpicklingError)
_REMEDY = "copy or download the whole checkpoint again, or save it again with MultiVectorEncoder.save_pretrained"


@dataclass(frozen=True)
class _BackboneLoad:
    """Holds what transformers reports of one backbone.

    Attributes:
        model: backbone.
        source: name, subfolder and revision of its weight files.
        missing: names of the weights that the files lack, or hold in another shape; transformers has drawn them at
            random.
        shapes: shape in the files and in the model, of weights in another shape.
    """

    model: PreTrainedModel
    source: tuple[str, str, str | None]
    missing: set[str]
    shapes: dict[str, tuple[Any, Any]]


def load_encoder(name: str, revision: str | None, device: str | None) -> MultiVectorEncoder:
    """Loads a checkpoint with Sentence Transformers: in float32 whatever its files hold, with every weight covered.

    Names that start with a known prefix (``module.``, ``_orig_mod.``, ``bert.``, ...) are mapped. Weights on which no
    token vector depends (a pooler, LUKE's entities) may be missing.

    Raises:
        ValueError: a weight is missing, has another shape or is not finite, the tokenizer has more tokens than the
            embedding, or a file is damaged.
        FileNotFoundError: there are no weights, or a shard of them is missing.
    """
    encoder, uncovered = _load(name, revision, device, {})
    if uncovered and (mapping := _map_prefixes(name, uncovered)):
        encoder, uncovered = _load(name, revision, device, mapping)
    if uncovered:
        raise _uncovered_error(name, uncovered)
    _check_sizes(name, encoder)
    # A sum is finite only if all values are, and takes a tenth of the time of asking each of them.
    if unusable := [key for key, weight in encoder.named_parameters() if not torch.isfinite(weight.detach().sum())]:
        raise ValueError(
            f"The weights of {name!r} are not finite numbers in {shorten(unusable)}; use a checkpoint of an earlier "
            "training step."
        )
    return encoder.float()


def _load(
    name: str, revision: str | None, device: str | None, mapping: dict[str, str]
) -> tuple[MultiVectorEncoder, list[tuple[_BackboneLoad, set[str]]]]:
    """Loads a checkpoint, and returns with it the names of the weights that are not covered, by backbone."""
    model_kwargs: dict[str, Any] = {
        # In the files' own dtype, Sentence Transformers would compute in half precision, or mix it with float32.
        "dtype": torch.float32,
        # transformers' own error points to a report that it has only logged.
        "ignore_mismatched_sizes": True,
    }
    if mapping:
        model_kwargs["key_mapping"] = mapping
    with _listening() as loads:
        encoder = MultiVectorEncoder(name, revision=revision, device=device, model_kwargs=model_kwargs)
    for load in loads:
        if any(weight.startswith("pooler.") for weight in load.missing):
            # Its random weights would be saved with a checkpoint that has none.
            setattr(load.model, "pooler", None)  # noqa: B010 # mypy takes a module for a tensor
    return encoder, [(load, names) for load in loads if (names := _uncovered_names(encoder, load))]


@contextlib.contextmanager
def _listening() -> Iterator[list[_BackboneLoad]]:
    """Collects transformers' reports, and reads the weights of other modules with this package's own reader.

    Sentence Transformers asks transformers for no report, and reads neither shards nor foreign prefixes. Only one
    thread at a time may be in this context; others that load models of their own meanwhile are not affected.
    """
    loads: list[_BackboneLoad] = []
    thread = threading.get_ident()
    load_model, load_module = PreTrainedModel.__dict__["from_pretrained"], Module.__dict__["load_torch_weights"]

    def from_pretrained(cls: type[PreTrainedModel], name: str, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != thread:
            return load_model.__func__(cls, name, *args, **kwargs)
        source = (str(name), kwargs.get("subfolder") or "", kwargs.get("revision"))
        try:
            model, report = load_model.__func__(cls, name, *args, **{**kwargs, "output_loading_info": True})
        except (*_FILE_ERRORS, KeyError, TypeError, ValueError):
            _check_files(*source)
            raise
        shapes = {key: (tuple(stored), tuple(needed)) for key, stored, needed in report["mismatched_keys"]}
        loads.append(_BackboneLoad(model, source, set(report["missing_keys"]) | shapes.keys(), shapes))
        return model

    def load_torch_weights(cls: type[Module], *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != thread:
            return load_module.__func__(cls, *args, **kwargs)
        return _load_module(*args, **kwargs)

    PreTrainedModel.from_pretrained = classmethod(from_pretrained)  # type: ignore[method-assign,assignment]
    Module.load_torch_weights = classmethod(load_torch_weights)  # type: ignore[method-assign,assignment]
    try:
        yield loads
    finally:
        PreTrainedModel.from_pretrained = load_model  # type: ignore[method-assign]
        Module.load_torch_weights = load_module  # type: ignore[method-assign]


def _load_module(
    model_name_or_path: str, subfolder: str = "", revision: str | None = None, model: Module | None = None, **_: Any
) -> Module | dict[str, torch.Tensor]:
    """Loads the weights of a module other than the backbone, like ``Module.load_torch_weights``.

    Returns:
        The module; without a module, the projection of Stanford ColBERT's layout, if there is one.

    Raises:
        ValueError: the weights do not cover the module, or hold more than the module has.
    """
    files = WeightFiles(model_name_or_path, subfolder, revision)
    shapes = {} if model is None else {name: tuple(value.shape) for name, value in model.state_dict().items()}
    matches = _match_unambiguously(files, shapes or ["linear.weight"])
    tensors = files.read(matches.values())
    weights = {name: tensors[stored] for name, stored in matches.items()}
    if model is None:
        if weights and weights["linear.weight"].ndim != 2:
            stored = tuple(weights["linear.weight"].shape)
            raise ValueError(
                f"The projection 'linear.weight' of {model_name_or_path!r} is {stored}, not a matrix; {_REMEDY}."
            )
        return weights
    place = os.path.join(model_name_or_path, subfolder)
    kind = type(model).__name__
    if missing := shapes.keys() - weights.keys():
        raise ValueError(f"The weights in {place} lack {shorten(missing)} of its {kind}; {_REMEDY}.")
    if unknown := set(files.names()) - set(matches.values()):
        raise ValueError(f"The weights in {place} hold {shorten(unknown)}, which its {kind} does not have; {_REMEDY}.")
    for name, shape in shapes.items():
        if (stored := tuple(weights[name].shape)) != shape:
            raise ValueError(f"{name!r} in {place} is {stored}, but its config.json says {shape}; {_REMEDY}.")
    model.load_state_dict(weights)
    return model


def _match_unambiguously(files: WeightFiles, needed: Iterable[str]) -> dict[str, str]:
    """Returns the name in the files of each needed weight that they hold, under its own name or a known prefix."""
    names = files.names()
    matches = {name: [name] if name in names else found for name, found in match_names(needed, names).items()}
    for name, found in matches.items():
        if len(found) > 1:
            raise ValueError(
                f"The weights in {files.files[0]} hold {name!r} more than once, as {shorten(found)}; save the "
                "checkpoint with only the model that should encode."
            )
    return {name: found for name, (found,) in matches.items()}


def _check_files(name: str, subfolder: str, revision: str | None) -> None:
    """Raises an error that names the file, if weight files are missing or damaged."""
    files = WeightFiles(name, subfolder, revision)
    files.names()
    if not files.files and os.path.isdir(name):
        raise FileNotFoundError(
            f"The folder {os.path.join(name, subfolder)} has a configuration but no weights (model.safetensors or "
            "pytorch_model.bin); copy or download the whole checkpoint again."
        )


def _uncovered_names(encoder: MultiVectorEncoder, load: _BackboneLoad) -> set[str]:
    """Returns the names of the missing weights on which token vectors depend."""
    names = {name for name in load.missing if "pooler" not in name.split(".")}
    backbone = next((part for part in encoder if isinstance(part, Transformer) and part.model is load.model), None)
    parameters = dict(load.model.named_parameters(remove_duplicate=False))
    present = sorted(names & parameters.keys())
    if not present or backbone is None:
        return names
    tokens = encoder.preprocess(["a"])
    features = {key: value.to(encoder.device) for key, value in tokens.items() if torch.is_tensor(value)}
    with torch.enable_grad():
        try:
            vectors = backbone(features)["token_embeddings"]
            gradients = torch.autograd.grad(vectors.sum(), [parameters[name] for name in present], allow_unused=True)
        except (RuntimeError, IndexError):
            return names
    return names - {name for name, gradient in zip(present, gradients, strict=True) if gradient is None}


def _map_prefixes(name: str, uncovered: list[tuple[_BackboneLoad, set[str]]]) -> dict[str, str]:
    """Returns what to replace in the names of weights, as transformers' ``key_mapping``, so that known prefixes go."""
    n_wrappers, prefixes = 0, set[str]()
    for load, names in uncovered:
        for needed, stored in _match_unambiguously(WeightFiles(*load.source), names).items():
            n_wrappers = max(n_wrappers, len(re.findall(WRAPPER_PATTERN, stored)))
            prefixes.add(strip_wrappers(stored).removesuffix(needed))
    # transformers applies each pattern once per name: as many patterns as a name has wrappers, told apart by groups
    # that match nothing.
    wrappers = {WRAPPER_PATTERN + "(?:)" * number: "" for number in range(n_wrappers)}
    return wrappers | {"^" + re.escape(prefix): "" for prefix in sorted(prefixes, key=len, reverse=True) if prefix}


def _uncovered_error(name: str, uncovered: list[tuple[_BackboneLoad, set[str]]]) -> ValueError:
    load, names = uncovered[0]
    absent, shapes = names - load.shapes.keys(), sorted(names & load.shapes.keys())
    reasons = [f"{shorten(absent)} {'is' if len(absent) == 1 else 'are'} missing"] if absent else []
    for key in shapes[:3]:
        stored, needed = load.shapes[key]
        reasons.append(f"{key!r} is {stored} in the files and {needed} by config.json")
    return ValueError(
        f"The weights of {name!r} do not cover its {type(load.model).__name__}: {', '.join(reasons)}, and random "
        f"weights in their place would give random rankings; {_REMEDY}."
    )


def _check_sizes(name: str, encoder: MultiVectorEncoder) -> None:
    """Checks that the embedding has a row per token, and that a projection takes what the backbone gives.

    Raises:
        ValueError: they do not.
    """
    backbone = encoder[0]
    if not isinstance(backbone, Transformer) or encoder.tokenizer is None:
        return
    rows = getattr(backbone.model.get_input_embeddings(), "num_embeddings", None)
    if rows is not None and len(encoder.tokenizer) > rows:
        if beyond := [token for token, number in encoder.tokenizer.get_vocab().items() if number >= rows]:
            raise ValueError(
                f"The tokenizer of {name!r} has {len(encoder.tokenizer)} tokens and its embedding {rows} rows, so that "
                f"{shorten(beyond, 3)} cannot be encoded; use the tokenizer with which the checkpoint was trained."
            )
    width = backbone.get_embedding_dimension()
    projection = next((part for part in encoder if isinstance(part, Dense)), None)
    if projection is not None and projection.in_features != width:
        raise ValueError(
            f"The projection of {name!r} takes {projection.in_features} dimensions and its backbone gives {width}; "
            f"{_REMEDY}."
        )
