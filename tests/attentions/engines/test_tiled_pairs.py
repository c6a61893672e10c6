"""Tiles whose scores are so large that their neighbours lie further apart than 1."""

import pytest
import torch

from attentions.engines.tiled_pairs import tiled_pairs
from attentions.maths.pairs.tiles import Tiling
from attentions.mechanisms.softmax import explicit_softmax
from attentions.mechanisms.softmax_chunked import SoftmaxChunked


def results(tensors, allowed=None, *, causal=False, size=16):
    q, k, v = (x.clone().requires_grad_() for x in tensors)
    tiling = Tiling(query_len=q.shape[2], key_len=k.shape[2], size=size, causal=causal)
    out = tiled_pairs(q, k, v, SoftmaxChunked, tiling, allowed=allowed)
    torch.manual_seed(1)
    return out, torch.autograd.grad(out, (q, k, v), torch.randn_like(out))


def signs(seq_len, magnitude):
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, 2, seq_len, 32).unbind()
    return magnitude * q.sign(), magnitude * k.sign(), v


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("magnitude", [1e2, 1e4, 1e6, 1e9, 1e15])
def test_gradients_of_large_scores_are_finite(causal, magnitude):
    out, gradients = results(signs(70, magnitude), causal=causal)
    assert out.isfinite().all()
    assert all(g.isfinite().all() for g in gradients)


def test_keys_that_tie_share_the_gradient_of_a_value_however_large_their_score():
    # Half of 2^60 is a float, and so is every score: only 1 / 4 is left to be rounded away.
    q = torch.full((1, 1, 3, 4), 2.0**30)
    v = torch.randn(1, 1, 4, 5)
    k = q[:, :, :1].expand(1, 1, 4, 4)
    out, (_, _, grad_v) = results((q, k, v), size=3)
    torch.testing.assert_close(out, v.mean(dim=2, keepdim=True).expand_as(out))
    torch.manual_seed(1)
    cotangent = torch.randn_like(out)
    torch.testing.assert_close(grad_v, (cotangent.sum(dim=2, keepdim=True) / 4).expand_as(v))


@pytest.mark.parametrize("causal", [False, True])
def test_tiles_of_any_size_give_what_the_whole_matrix_gives(causal, qkv):
    tensors = qkv(2, 2, 21, 4, value_dim=3)
    for size in (1, 5, 21, 64):
        out, gradients = results(tensors, causal=causal, size=size)
        q, k, v = (x.clone().requires_grad_() for x in tensors)
        expected = explicit_softmax(q, k, v, causal=causal)
        torch.manual_seed(1)
        wanted = torch.autograd.grad(expected, (q, k, v), torch.randn_like(expected))
        torch.testing.assert_close(out, expected)
        for got, want in zip(gradients, wanted, strict=True):
            torch.testing.assert_close(got, want)


def test_a_query_that_sees_nothing_gets_zeros_and_passes_no_gradient(qkv):
    allowed = torch.ones(1, 1, 9, 9, dtype=torch.bool)
    allowed[..., 4, :] = False
    out, (grad_q, grad_k, _) = results(qkv(1, 2, 9, 4), allowed, size=4)
    assert out[:, :, 4].eq(0).all()
    assert grad_q[:, :, 4].eq(0).all()
    assert grad_k.isfinite().all()
