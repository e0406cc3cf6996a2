"""Tells what a processor can do."""

from __future__ import annotations

from typing import Any


def native_bfloat16(device: Any) -> bool:
    """Tells whether a device multiplies bfloat16 matrices natively, so that they are faster than float32.

    Where it does not, torch's products of bfloat16 take tens of times as long as those of float32.

    Args:
        device: torch's device.
    """
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    names = ("amx_bf16", "avx512_bf16", "bf16", "arm_bf16", "sve_bf16")
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    if capabilities:
        return any(capabilities.get(name, False) for name in names)
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", bool)())
