import math

import pytest
import torch

from attentions import Geometry, build_attention

CPU = torch.device("cpu")


def build(causal=False, *, num_heads=2, head_dim=4, seq_len=7, value_dim=3, **settings):
    geometry = Geometry(
        num_heads=num_heads, head_dim=head_dim, seq_len=seq_len, value_dim=value_dim, causal=causal
    )
    return build_attention("softmax_chunked", geometry, **settings)


def attention_by_hand(q, k, v, causal):
    """The online softmax of one query, a key at a time."""
    out = torch.zeros(*q.shape[:3], v.shape[-1], dtype=q.dtype)
    for b, h, i in torch.cartesian_prod(*(torch.arange(n) for n in q.shape[:3])).tolist():
        peak, total, gathered = -math.inf, 0.0, torch.zeros(v.shape[-1], dtype=v.dtype)
        for j in range(i + 1 if causal else k.shape[2]):
            score = float(q[b, h, i] @ k[b, h, j]) / math.sqrt(q.shape[-1])
            higher = max(peak, score)
            total = total * math.exp(peak - higher) + math.exp(score - higher)
            gathered = gathered * math.exp(peak - higher) + math.exp(score - higher) * v[b, h, j]
            peak = higher
        out[b, h, i] = gathered / total
    return out


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 256])
@pytest.mark.parametrize("causal", [False, True])
def test_it_is_the_online_softmax(causal, chunk_size, qkv):
    q, k, v = qkv(2, 2, 7, 4, value_dim=3)
    expected = attention_by_hand(q, k, v, causal)
    core = build(causal, chunk_size=chunk_size)
    torch.testing.assert_close(core(q, k, v), expected)
    torch.testing.assert_close(core.reference(q, k, v), expected)


def test_large_scores_of_either_sign_neither_overflow_nor_vanish():
    core = build(num_heads=1, head_dim=1, seq_len=2, value_dim=1, chunk_size=1)
    k = torch.tensor([[[[1e4], [1e4 + 1]]]])
    v = torch.tensor([[[[1.0], [3.0]]]])
    share = 1 / (1 + math.exp(-1))
    for sign, of_second in ((1, share), (-1, 1 - share)):
        out = core(torch.full((1, 1, 2, 1), float(sign)), k, v)
        assert out.flatten().tolist() == pytest.approx([1 + 2 * of_second] * 2, rel=1e-6)


def test_only_two_numbers_per_query_are_kept_beside_inputs_and_output():
    core = build(num_heads=1, head_dim=8, value_dim=8, seq_len=64, chunk_size=16)
    q, k, v = (torch.randn(1, 1, 64, 8, requires_grad=True) for _ in range(3))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()), lambda x: x):
        core(q, k, v)
    assert sorted(kept) == [64, 64, 512, 512, 512, 512]


def test_there_is_no_second_derivative():
    q, k, v = (torch.randn(1, 2, 7, n, requires_grad=True) for n in (4, 4, 3))
    (gradient,) = torch.autograd.grad(build()(q, k, v).sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        gradient.sum().backward()
