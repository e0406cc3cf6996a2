"""Packed linear layers compute the same as torch's own, which remain in use if packing is unavailable."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyterrier_jacolbert.encoding import packed_linear
from pyterrier_jacolbert.encoding.packed_linear import PackedLinear, pack_linears

needs_packing = pytest.mark.skipif(
    not packed_linear.packing_works(), reason="this build of torch lacks packed products"
)


def layers(inputs=24, outputs=40, bias=True):
    return torch.nn.Sequential(torch.nn.Linear(inputs, outputs, bias=bias), torch.nn.GELU()).to(torch.bfloat16)


@needs_packing
@settings(deadline=None, max_examples=30)
@given(
    inputs=st.integers(1, 70),
    outputs=st.integers(1, 70),
    leading=st.lists(st.integers(1, 5), min_size=1, max_size=2),
    bias=st.booleans(),
    seed=st.integers(0, 99),
)
def test_packed_layers_equal_float32_to_bfloat16_precision(inputs, outputs, leading, bias, seed):
    torch.manual_seed(seed)
    linear = torch.nn.Linear(inputs, outputs, bias=bias).to(torch.bfloat16)
    values = torch.randn(*leading, inputs).to(torch.bfloat16)
    with torch.inference_mode():
        found = PackedLinear(linear)(values)
        expected = torch.nn.functional.linear(
            values.float(), linear.weight.float(), linear.bias.float() if bias else None
        )
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, atol=2**-7, rtol=2**-7)


@needs_packing
def test_every_linear_layer_is_packed_and_others_stay():
    module = torch.nn.Sequential(layers(), torch.nn.Sequential(layers(40, 8)))
    values = torch.randn(3, 24).to(torch.bfloat16)
    with torch.inference_mode():
        expected = module(values)
        pack_linears(module)
        torch.testing.assert_close(module(values), expected, atol=2**-6, rtol=2**-6)
    kinds = [type(child) for child in module.modules() if not list(child.children())]
    assert kinds == [PackedLinear, torch.nn.GELU, PackedLinear, torch.nn.GELU]


@pytest.mark.parametrize("error", [AttributeError, RuntimeError, None])
def test_missing_or_wrong_operators_leave_layers_unchanged(monkeypatch, error):
    class Broken(PackedLinear):
        def forward(self, inputs):
            if error:
                raise error("no such operator")
            return torch.zeros(*inputs.shape[:-1], 48, dtype=inputs.dtype)

    monkeypatch.setattr(packed_linear, "PackedLinear", Broken)
    module = layers()
    pack_linears(module)
    assert type(module[0]) is torch.nn.Linear
