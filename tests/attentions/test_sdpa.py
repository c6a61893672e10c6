"""Which call goes to torch's kernel, and that both ways give one function."""

import pytest
import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

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


KERNEL = functional.scaled_dot_product_attention


def errors_of_gradients(mix, magnitude, dtype):
    """Beside explicit weights in float64, over the largest gradient."""
    given = tensors(magnitude, dtype, seq_len=64)
    found = gradients(mix(*given), given)
    q, k, v = (x.detach().double().requires_grad_() for x in given)
    weights = (q @ k.transpose(-2, -1) / 4).softmax(dim=-1)
    exact = gradients(weights @ v, (q, k, v))
    return [
        float((a.double() - b).abs().max() / b.abs().max())
        for a, b in zip(found, exact, strict=True)
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_are_right_where_the_kernel_cannot_compute_weights_again(dtype):
    assert max(errors_of_gradients(KERNEL, 1e3, dtype)) > 0.05
    assert max(errors_of_gradients(fused_softmax, 1e3, dtype)) < 0.03


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("magnitude", [1e4, 1e6, 1e9, 1e18])
def test_gradients_are_finite_as_long_as_products_of_two_inputs_are(name, causal, dtype, magnitude):
    given = tensors(magnitude, dtype)
    out = build(name, causal)(*given)
    assert out.isfinite().all()
    assert all(g.isfinite().all() for g in gradients(out, given))


def name_of_gradient(out):
    return out.grad_fn.name()


def test_ordinary_scores_stay_with_the_kernel():
    given = tensors(50.0, torch.float32)  # scores of thousands
    assert name_of_gradient(fused_softmax(*given)) == name_of_gradient(KERNEL(*given))


def test_large_scores_leave_the_kernel_only_for_gradients_and_where_nothing_is_packed():
    given = tensors(1e4, torch.float32)
    kernel = KERNEL(*given)
    assert name_of_gradient(fused_softmax(*given)) != name_of_gradient(kernel)
    with torch.no_grad():
        assert torch.equal(fused_softmax(*given), kernel)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x):
        assert name_of_gradient(fused_softmax(*given)) == name_of_gradient(kernel)


def test_a_checkpoint_runs_a_layer_twice_and_not_three_times():
    calls = []

    def counted(*given):
        calls.append(1)
        return fused_softmax(*given)

    given = tensors(dtype=torch.float32)
    checkpoint(counted, *given, use_reentrant=False).sum().backward()
    assert len(calls) == 2


@pytest.mark.parametrize("masked", [False, True])
def test_large_scores_of_later_tokens_and_other_rows_change_no_bit_of_an_output(masked):
    q, k, v = (x.detach().requires_grad_() for x in tensors(dtype=torch.float32))
    mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril() if masked else None

    def call(q):
        return fused_softmax(q, k, v, mask, is_causal=not masked)

    ordinary = call(q)
    large = q.detach().clone()
    large[:, :, -1] = 1e6
    out = call(large.requires_grad_())
    assert name_of_gradient(out) != name_of_gradient(ordinary), "gradients come from elsewhere"
    assert torch.equal(out[:, :, :-1], ordinary[:, :, :-1])


def test_only_gradients_that_are_wanted_come_from_tiles():
    q, k, v = tensors(1e4, torch.float32)
    k = k.detach()
    fused_softmax(q, k, v).sum().backward()
    assert k.grad is None
    assert q.grad is not None and q.grad.isfinite().all()
    assert v.grad is not None and v.grad.isfinite().all()
