import math

import pytest
import torch

from attentions import Geometry, build_attention


def build(causal=False, seq_len=7, **settings):
    geometry = Geometry(num_heads=2, head_dim=4, seq_len=seq_len, value_dim=3, causal=causal)
    return build_attention("sigmoid", geometry, **settings)


def attention_by_hand(q, k, v, causal, bias):
    """One number at a time."""
    out = torch.zeros(*q.shape[:3], v.shape[-1], dtype=q.dtype)
    for b, h, i in torch.cartesian_prod(*(torch.arange(n) for n in q.shape[:3])).tolist():
        for j in range(i + 1 if causal else k.shape[2]):
            score = float(q[b, h, i] @ k[b, h, j]) / math.sqrt(q.shape[-1])
            out[b, h, i] += v[b, h, j] / (1 + math.exp(-(score + bias)))
    return out


@pytest.mark.parametrize("bias", [None, 0.0, -3])
@pytest.mark.parametrize("causal", [False, True])
def test_it_is_the_formula_of_the_paper(causal, bias, qkv):
    q, k, v = qkv(2, 2, 7, 4, value_dim=3)
    expected = attention_by_hand(q, k, v, causal, -math.log(7) if bias is None else bias)
    for chunk_size in (1, 3, 256):
        core = build(causal, bias=bias, chunk_size=chunk_size)
        torch.testing.assert_close(core(q, k, v), expected)
    torch.testing.assert_close(core.reference(q, k, v), expected)


def test_weights_of_small_scores_add_up_to_about_one():
    core = build(seq_len=1000)
    q, v = torch.zeros(1, 2, 1000, 4), torch.ones(1, 2, 1000, 3)
    assert core(q, q, v).flatten().tolist() == pytest.approx([1000 / 1001] * 6000, rel=1e-5)


def test_an_output_beyond_float16_is_its_largest_number():
    q, v = torch.full((1, 2, 7, 4), 9.0), torch.full((1, 2, 7, 3), 3e4)
    out = build(bias=0.0)(*(x.half() for x in (q, q, v)))
    assert out.eq(torch.finfo(torch.float16).max).all()
