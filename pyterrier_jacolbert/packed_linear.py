"""Linear layers with weights laid out once for oneDNN, which otherwise lays them out again in every call on a CPU."""

from __future__ import annotations

import torch


class PackedLinear(torch.nn.Module):
    """``torch.nn.Linear`` in bfloat16 for inference on a CPU, its weight in oneDNN's own layout.

    Args:
        linear: the layer; its weight is copied.
    """

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        # Not a parameter: the layout is opaque, and nothing but the product may read it.
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        self._bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """The affine map, as ``torch.nn.Linear`` computes it."""
        found: torch.Tensor = torch.ops.mkldnn._linear_pointwise(inputs, self._weight, self._bias, "none", [], "")
        return found


def pack_linears(module: torch.nn.Module) -> None:
    """Replaces the linear layers within a bfloat16 module by packed ones.

    Where this build of torch lacks the operators (they are what torch.compile uses, and no public interface), or they
    disagree with ``torch.nn.Linear`` on a sample, the module stays as it is: the same vectors, some 10 % slower.

    Source: the measurement is ``benchmarks/encode.py``.
    """
    if _works():
        _replace(module)


def _replace(module: torch.nn.Module) -> None:
    for name, child in module.named_children():
        if type(child) is torch.nn.Linear:
            setattr(module, name, PackedLinear(child))
        else:
            _replace(child)


def _works() -> bool:
    linear = torch.nn.Linear(64, 48).to(torch.bfloat16)
    sample = torch.linspace(-1, 1, 2 * 3 * 64).reshape(2, 3, 64).to(torch.bfloat16)
    with torch.inference_mode():
        expected = linear(sample)
        try:
            found = PackedLinear(linear)(sample)
        except (AttributeError, NotImplementedError, RuntimeError, TypeError):
            return False
    return found.shape == expected.shape and bool(torch.allclose(found, expected, atol=1e-2, rtol=1e-2))
