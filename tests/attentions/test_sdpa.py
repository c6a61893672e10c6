"""Which call goes to torch's kernel, and that both ways give one function."""

import pytest
import torch
from torch.nn import functional

from attentions import Geometry, build_attention, build_layer
from attentions._sdpa import fused_softmax, needs_tiles

EXACT = ("softmax", "softmax_explicit", "sliding_window", "block_sparse")
NUM_TOKENS = 300
"""More than a block of a window of 20, or than the eight blocks of 16 that a block sees."""
SETTINGS = {"sliding_window": {"window": 20}, "block_sparse": {"block_size": 16}}


def tensors(magnitude=None, dtype=torch.float16, seq_len=NUM_TOKENS):
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, 2, seq_len, 16).unbind()
    if magnitude is not None:
        q, k = magnitude * q.sign(), magnitude * k.sign()
    return [x.to(dtype).requires_grad_() for x in (q, k, v)]


def gradients(out, given):
    torch.manual_seed(1)
    cotangent = torch.randn(out.shape, dtype=torch.float64).to(out.dtype)
    return torch.autograd.grad(out, given, cotangent)


def build(name, causal):
    geometry = Geometry(num_heads=2, head_dim=16, seq_len=NUM_TOKENS, causal=causal)
    return build_attention(name, geometry, **SETTINGS.get(name, {}))


def test_only_float16_that_wants_gradients_leaves_the_kernel():
    assert needs_tiles(*tensors())
    assert not needs_tiles(*tensors(dtype=torch.bfloat16))
    assert not needs_tiles(*tensors(dtype=torch.float32))
    assert not needs_tiles(*(x.detach() for x in tensors()))
    assert not needs_tiles(*(x.to("meta") for x in tensors()))
    with torch.no_grad():
        assert not needs_tiles(*tensors())


@pytest.mark.parametrize("scale", [None, 0.05])
@pytest.mark.parametrize("kind", ["plain", "causal", "masked"])
def test_tiles_give_what_the_kernel_gives(kind, scale):
    given = tensors()
    mask = torch.rand(NUM_TOKENS, NUM_TOKENS) < 0.5 if kind == "masked" else None
    if mask is not None:
        mask[:, 0] = True
    is_causal = kind == "causal"
    out = fused_softmax(*given, mask, is_causal=is_causal, scale=scale)
    wide = [x.detach().double().requires_grad_() for x in given]
    expected = functional.scaled_dot_product_attention(
        *wide, mask, is_causal=is_causal, scale=scale
    )
    assert out.dtype == torch.float16
    torch.testing.assert_close(out.double(), expected, rtol=2e-3, atol=2e-3)
    for got, want in zip(gradients(out, given), gradients(expected, wide), strict=True):
        assert got.dtype == torch.float16
        torch.testing.assert_close(got.double(), want, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("magnitude", [1e3, 1e4, 65504.0])
def test_float16_stays_finite_up_to_its_largest_number(name, causal, magnitude):
    given = tensors(magnitude)
    out = build(name, causal)(*given)
    assert out.dtype == torch.float16
    assert out.isfinite().all()
    assert all(g.isfinite().all() for g in gradients(out, given))


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("causal", [False, True])
def test_values_of_the_largest_number_come_out_as_they_are(name, causal):
    q, k, _ = tensors()
    v = torch.full_like(q, 65504.0).requires_grad_()
    out = build(name, causal)(q, k, v)
    assert out.eq(65504.0).all()
    assert all(g.isfinite().all() for g in gradients(out, (q, k, v)))


@pytest.mark.parametrize("name", [*EXACT, "mla"])
def test_a_layer_of_float16_trains_under_autocast(name):
    layer = build_layer(name, Geometry(num_heads=2, head_dim=8, seq_len=12, causal=True))
    x = torch.randn(2, 12, 16)
    with torch.autocast("cpu", dtype=torch.float16):
        out = layer(x)
    assert out.dtype == torch.float16
    out.float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


def test_a_latent_layer_of_float16_has_finite_gradients_for_tokens_of_1e4():
    torch.manual_seed(0)
    layer = build_layer("mla", Geometry(num_heads=1, head_dim=32, seq_len=64, causal=True))
    with torch.no_grad():  # weights as after some training: larger scores
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    layer = layer.half()
    x = (1e4 * torch.randn(1, 64, 32).sign()).half().requires_grad_()
    out = layer(x)
    assert out.isfinite().all()
    assert all(g.isfinite().all() for g in gradients(out, [x, *layer.parameters()]))
