"""Chooses the dtype of the model and converts it to that dtype."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from sentence_transformers.base.modules import Transformer

from pyterrier_jacolbert.encoding.packed_linear import pack_linears

if TYPE_CHECKING:
    from sentence_transformers import MultiVectorEncoder


def native_bfloat16(device: torch.device) -> bool:
    """Tells whether a device multiplies bfloat16 matrices natively, so that they are faster than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    names = ("amx_bf16", "avx512_bf16", "bf16", "arm_bf16", "sve_bf16")
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    if capabilities:
        return any(capabilities.get(name, False) for name in names)
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", bool)())


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


def to_float32(model: MultiVectorEncoder) -> torch.nn.Module:
    """Returns the backbone of a checkpoint in float32: itself if it already is, else a copy."""
    backbone = model[0]
    if all(weight.dtype == torch.float32 for weight in backbone.parameters()):
        return backbone
    return copy.deepcopy(backbone).float()


def to_bfloat16(backbone: torch.nn.Module, device: torch.device) -> torch.nn.Module | None:
    """Returns a bfloat16 copy of a backbone, tuned for the device; None if the backbone is not a transformer."""
    if not isinstance(backbone, Transformer):
        return None
    reduced: Any = copy.deepcopy(backbone).to(torch.bfloat16)
    if device.type == "cpu":
        # torch's fused attention is slower than plain products in bfloat16 on a CPU (benchmarks/encode.py).
        reduced.model.set_attn_implementation("eager")
        pack_linears(reduced)
    module: torch.nn.Module = reduced
    return module
