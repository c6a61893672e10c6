from functools import partial

import pytest
import torch

from tests.attentions.calls import built, call_of, in_steps

build = partial(built, "topk", seq_len=11)


def test_float32_chooses_as_float64_does_where_scores_nearly_coincide():
    """Among 4096 scores, which differ in the last bits of a float32 sum only."""
    torch.manual_seed(0)
    q = torch.randn(1, 1, 64, 64)
    k = torch.randn(1, 1, 1, 64) + 1e-6 * torch.randn(1, 1, 4096, 64)
    v = torch.randn(1, 1, 4096, 1)
    core = build(num_heads=1, head_dim=64, seq_len=4096, value_dim=1, k=4)
    wide = core.reference(q.double(), k.double(), v.double())
    assert (core(q, k, v) - wide).abs().max() < 1e-5


def test_equal_scores_leave_a_choice_of_k_keys():
    v = torch.eye(11).expand(1, 2, 11, 11)
    q = torch.zeros(1, 2, 11, 4)
    weights = build(value_dim=11, k=4)(q, q, v)
    assert weights.gt(0).sum(dim=-1).eq(4).all()
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(1, 2, 11))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("num_kept", [1, 3, 100])
def test_flops_count_all_scores_and_the_chosen_values(causal, num_kept):
    core = build(causal, k=num_kept)
    shape = call_of(11, 4, 5, batch_size=3, causal=causal)
    seen = [i + 1 if causal else 11 for i in range(11)]
    chosen = sum(min(n, num_kept) for n in seen)
    assert core.flops(shape) == 3 * 2 * (sum(seen) * 2 * 4 + chosen * 2 * 5)


@pytest.mark.parametrize("causal", [False, True])
def test_heads_that_share_keys_choose_among_them_as_among_copies(causal, qkv):
    q, *shared = (x.requires_grad_() for x in qkv(2, 4, 11, 4))
    k, v = (x[:, :2].detach().requires_grad_() for x in shared)
    out = build(causal, num_heads=4, num_kv_heads=2, k=3, chunk_size=4)(q, k, v)
    copies = (x.repeat_interleave(2, dim=1) for x in (k, v))
    expected = build(causal, num_heads=4, k=3)(q, *copies)
    torch.testing.assert_close(out, expected)
    cotangent = torch.randn_like(out)
    pairs = (torch.autograd.grad(x, (q, k, v), cotangent) for x in (out, expected))
    for got, want in zip(*pairs, strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("lengths", [[1] * 11, [4, 1, 6]], ids=str)
def test_a_decoded_token_chooses_among_all_before_it(lengths, qkv):
    tensors = qkv(1, 2, 11, 4)
    core = build(causal=True, k=3)
    torch.testing.assert_close(in_steps(core, tensors, lengths)[0], core(*tensors))
    assert core.decode_flops(call_of(11)) == 2 * 2 * (11 * 4 + 3 * 8)
