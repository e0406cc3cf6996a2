"""Chooses the dtype of the model and converts it to that dtype."""

from __future__ import annotations

import copy
import itertools
from typing import TYPE_CHECKING, Any

import torch
from sentence_transformers.base.modules import Transformer
from transformers import PreTrainedModel

from pyterrier_jacolbert.encoding.packed_linear import pack_linears
from pyterrier_jacolbert.index.processors import native_bfloat16

if TYPE_CHECKING:
    from sentence_transformers import MultiVectorEncoder


def resolve_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """Resolves the name of a dtype; ``"auto"`` is bfloat16 if the device multiplies it natively, else float32.

    Raises:
        ValueError: the name is unknown.
    """
    if dtype == "auto":
        return torch.bfloat16 if native_bfloat16(device) else torch.float32
    if dtype not in ("float32", "bfloat16"):
        raise ValueError(f"dtype must be 'auto', 'float32' or 'bfloat16', not {dtype!r}.")
    return torch.float32 if dtype == "float32" else torch.bfloat16


def to_float32(model: MultiVectorEncoder) -> MultiVectorEncoder:
    """Returns a checkpoint with all weights in float32: itself if they already are, else a copy.

    The given checkpoint is not changed. A copy has the rotary tables of its configuration, because tables that were
    rounded to half precision would turn distant positions by a wrong angle.
    """
    tensors = itertools.chain(model.parameters(), model.buffers())
    if all(tensor.dtype == torch.float32 or not tensor.is_floating_point() for tensor in tensors):
        return model
    copied = copy.deepcopy(model).float()
    for part in copied.modules():
        if isinstance(part, PreTrainedModel):
            _recompute_rotary_tables(part)
    return copied


def to_bfloat16(backbone: torch.nn.Module, device: torch.device) -> torch.nn.Module | None:
    """Returns a bfloat16 copy of a backbone, tuned for the device.

    None if the backbone is not a transformer, or cannot compute in bfloat16 (FNet's Fourier transform).

    Rotary frequencies stay in float32: an angle is a frequency times a position, so that an error of 2**-9 in the
    frequency is half a turn at position 1,600.
    """
    if not isinstance(backbone, Transformer):
        return None
    reduced: Any = copy.deepcopy(backbone)
    frequencies = {name: buffer for name, buffer in reduced.named_buffers() if "inv_freq" in name}
    reduced.to(torch.bfloat16)
    for name, buffer in frequencies.items():
        owner, _, attribute = name.rpartition(".")
        setattr(reduced.get_submodule(owner), attribute, buffer)
    if device.type == "cpu":
        # torch's fused attention is slower than plain products in bfloat16 on a CPU (benchmarks/encode.py).
        reduced.model.set_attn_implementation("eager")
        pack_linears(reduced)
    sample = torch.zeros((1, 2), dtype=torch.int64, device=device)
    try:
        with torch.inference_mode():
            reduced({"input_ids": sample, "attention_mask": torch.ones_like(sample)})
    except RuntimeError:
        return None
    module: torch.nn.Module = reduced
    return module


def _recompute_rotary_tables(model: PreTrainedModel) -> None:
    for module in model.modules():
        names = [name for name in module._non_persistent_buffers_set if "inv_freq" in name]
        if names and not any(True for _ in module.parameters()):
            # transformers computes the tables from the configuration.
            model._init_weights(module)  # type: ignore[no-untyped-call]
