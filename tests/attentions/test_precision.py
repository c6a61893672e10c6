import pytest
import torch

from attentions import Geometry, build_attention, build_layer
from attentions.precision import wide_dtype, widen

WIDENED = ("linear", "performer", "flatten", "nala", "nala_cosine", "softmax_explicit")


def test_half_becomes_float32_and_the_rest_stays_itself():
    for dtype in (torch.float16, torch.bfloat16):
        assert widen(torch.ones(2, dtype=dtype)).dtype == wide_dtype(dtype) == torch.float32
    for dtype in (torch.float32, torch.float64):
        x = torch.ones(2, dtype=dtype)
        assert widen(x) is x
        assert wide_dtype(dtype) == dtype


def test_a_gradient_too_large_for_float16_stops_at_the_largest_value():
    x = torch.ones(3, dtype=torch.float16, requires_grad=True)
    (widen(x) * torch.tensor([1e6, -1e6, 2.0])).sum().backward()
    assert x.grad.tolist() == [65504.0, -65504.0, 2.0]


def test_a_gradient_that_is_not_a_number_is_not_hidden():
    x = torch.ones(1, dtype=torch.float16, requires_grad=True)
    (widen(x) * torch.nan).sum().backward()
    assert x.grad.isnan().all()


@pytest.mark.parametrize("name", WIDENED)
def test_autocast_does_not_reach_the_products(name, qkv):
    core = build_attention(name, Geometry(num_heads=2, head_dim=8, seq_len=12))
    q, k, v = (x.float() for x in qkv(1, 2, 12, 8))
    plain = core(q, k, v)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(core(q, k, v), plain)


@pytest.mark.parametrize("name", WIDENED)
def test_a_layer_trains_under_autocast(name):
    layer = build_layer(name, Geometry(num_heads=2, head_dim=8, seq_len=12))
    x = torch.randn(2, 12, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(x)
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
