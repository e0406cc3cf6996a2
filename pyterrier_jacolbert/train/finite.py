"""Finds NaN and infinite values in models, optimizers and checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open


def nonfinite_name(tensors: Iterable[tuple[str, torch.Tensor]]) -> str | None:
    """Returns the name of the first tensor with a NaN or infinite value, or None if all values are finite.

    Args:
        tensors: named tensors; those without floating-point values are skipped.
    """
    for name, tensor in tensors:
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            return name
    return None


def check_weights(model: torch.nn.Module, owner: str, remedy: str) -> None:
    """Checks that the weights and buffers of a model are finite.

    Args:
        model: model to check.
        owner: description of the model, with which the message starts.
        remedy: clause with which the message ends.

    Raises:
        FloatingPointError: a tensor has a NaN or infinite value; the message names it.
    """
    name = nonfinite_name(model.state_dict().items())
    if name is not None:
        raise FloatingPointError(f"{owner} has NaN or infinite weights in {name!r}; {remedy}.")


def optimizer_tensors(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, torch.Tensor]]:
    """Yields the state of an optimizer, such as a schedule-free optimizer's second set of weights, with names."""
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, torch.Tensor):
                yield f"{key} of {name}", value


def checkpoint_fault(folder: Path) -> str | None:
    """Returns a description of what keeps a run from resuming from a checkpoint, or None if nothing does.

    Args:
        folder: checkpoint with safetensors weights and, in a checkpoint to resume from, ``optimizer.pt``.
    """
    for file in sorted(folder.rglob("*.safetensors")):
        relative = file.relative_to(folder).as_posix()
        try:
            with safe_open(file, framework="pt") as weights:
                name = nonfinite_name((key, weights.get_tensor(key)) for key in weights.keys())
        except SafetensorError:
            return f"{relative} cannot be read"
        if name is not None:
            return f"NaN or infinite weights in {name!r} of {relative}"
    return _optimizer_fault(folder / "optimizer.pt")


def _optimizer_fault(file: Path) -> str | None:
    if not file.is_file():
        return None
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except RuntimeError:  # torch's error for a truncated file
        return f"{file.name} cannot be read"
    name = nonfinite_name(
        (f"{key} of parameter {number}", value)
        for number, state in content["state"].items()
        for key, value in state.items()
        if isinstance(value, torch.Tensor)
    )
    return None if name is None else f"NaN or infinite values in {name!r} of {file.name}"
