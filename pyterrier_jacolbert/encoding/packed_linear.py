"""Linear layers whose weights are packed for oneDNN once; on a CPU, oneDNN otherwise repacks them in every call."""

from __future__ import annotations

from typing import TypeGuard

import torch


class PackedLinear(torch.nn.Module):
    """A bfloat16 ``torch.nn.Linear`` for inference on a CPU, with its weight in oneDNN's own layout.

    Args:
        linear: layer to pack; its weight is copied.

    Attributes:
        in_features: size of the inputs.
        out_features: size of the outputs.
        bias: bias of the layer; None if it has none.
    """

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        # Not a parameter: the layout is opaque, and only the product may read it.
        self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        self._unpacked: torch.Tensor | None = None
        self.bias = None if linear.bias is None else linear.bias.detach()

    @property
    def weight(self) -> torch.Tensor:
        """Weight in torch's own layout, for modules that look at it: bfloat16 ``(out_features, in_features)``.

        T5 asks for its dtype in every call, so it is unpacked only once. Layers that nobody asks hold one copy only.
        """
        if self._unpacked is None:
            self._unpacked = self._packed.to_dense()
        return self._unpacked

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Computes the affine map of ``torch.nn.Linear``."""
        outputs: torch.Tensor = torch.ops.mkldnn._linear_pointwise(inputs, self._packed, self.bias, "none", [], "")
        return outputs


def pack_linears(module: torch.nn.Module) -> None:
    """Replaces the linear layers within a bfloat16 module with packed ones.

    The module stays unchanged if this build of torch lacks the operators (torch.compile uses them, but they are not a
    public interface) or if they disagree with ``torch.nn.Linear`` on a sample: the vectors are the same, and encoding
    is some 10 % slower.

    Source: measured by ``benchmarks/encode.py``.
    """
    if packing_works():
        _replace_linears(module)


def packing_works() -> bool:
    """Tells whether packed layers run in this build of torch and agree with ``torch.nn.Linear`` on a sample."""
    linear = torch.nn.Linear(64, 48).to(torch.bfloat16)
    sample = torch.linspace(-1, 1, 2 * 3 * 64).reshape(2, 3, 64).to(torch.bfloat16)
    with torch.inference_mode():
        expected = linear(sample)
        try:
            outputs = PackedLinear(linear)(sample)
        except (AttributeError, NotImplementedError, RuntimeError, TypeError):
            return False
    return outputs.shape == expected.shape and bool(torch.allclose(outputs, expected, atol=1e-2, rtol=1e-2))


def _replace_linears(module: torch.nn.Module) -> None:
    for name, child in module.named_children():
        if _is_packable(child):
            setattr(module, name, PackedLinear(child))
        else:
            _replace_linears(child)


def _is_packable(module: torch.nn.Module) -> TypeGuard[torch.nn.Linear]:
    # Hooks compute weights (weight_norm) or read outputs, and a packed layer would have none.
    return (
        type(module) is torch.nn.Linear
        and module.weight.dtype == torch.bfloat16
        and module.weight.numel() > 0
        and not module._forward_pre_hooks
        and not module._forward_hooks
    )
