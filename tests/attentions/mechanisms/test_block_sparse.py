import itertools
import math
from functools import partial

import pytest
import torch

from tests.attentions.calls import built, call_of

CPU = torch.device("cpu")


build = partial(built, "block_sparse", seq_len=31)


def seen_by_hand(core, i, j, h, num_blocks):
    """Whether block i sees block j."""
    num_last = 0 if core.geometry.causal else core.num_global // 2
    first = core.num_global - num_last
    if min(i, j) < first or max(i, j) >= num_blocks - num_last or abs(i - j) <= core.reach:
        return True
    drawn, is_drawn = core._draw(core.geometry.num_heads, num_blocks, CPU)
    return j in drawn[h, i][is_drawn[h, i]].tolist()


def mask_by_hand(core, length):
    """(H, N, N), True if seen, one pair at a time."""
    size, heads = core.block_size, core.geometry.num_heads
    num_blocks = math.ceil(length / size)
    mask = torch.zeros(heads, length, length, dtype=torch.bool)
    for h, i, j in itertools.product(range(heads), range(length), range(length)):
        if j <= i or not core.geometry.causal:
            mask[h, i, j] = seen_by_hand(core, i // size, j // size, h, num_blocks)
    return mask


SETTINGS = [
    {"block_size": 3},
    {"block_size": 2, "num_global_blocks": 3, "num_random_blocks": 2, "seed": 5},
    {"block_size": 4, "num_global_blocks": 0, "num_window_blocks": 1, "num_random_blocks": 1},
    {"block_size": 3, "num_global_blocks": 1, "num_window_blocks": 5, "num_random_blocks": 0},
    {"block_size": 1},
    {},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("causal", [False, True])
def test_it_is_softmax_over_the_blocks_that_are_seen(causal, settings, qkv):
    q, k, v = qkv(2, 2, 31, 4, value_dim=3)
    core = build(causal, value_dim=3, **settings)
    scores = q @ k.transpose(-2, -1) / 2
    weights = scores.masked_fill(~mask_by_hand(core, 31), -math.inf).softmax(dim=-1)
    torch.testing.assert_close(core(q, k, v), weights @ v)
    torch.testing.assert_close(core.reference(q, k, v), weights @ v)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("seq_len", "block_size"), [(400, 32), (200, 7)])
def test_few_blocks_at_a_time_give_what_a_mask_gives(causal, seq_len, block_size, qkv):
    tensors = [x.requires_grad_() for x in qkv(2, 2, seq_len, 8)]
    core = build(causal, head_dim=8, seq_len=seq_len, block_size=block_size)
    assert not core._is_dense(seq_len)
    out, expected = core(*tensors), core.reference(*tensors)
    torch.testing.assert_close(out, expected)
    cotangent = torch.randn_like(out)
    pairs = (torch.autograd.grad(x, tensors, cotangent) for x in (out, expected))
    for got, want in zip(*pairs, strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("causal", [False, True])
def test_flops_count_the_pairs_that_are_seen(causal, settings):
    core = build(causal, **settings)
    shape = call_of(31, 4, 5, batch_size=3, causal=causal)
    assert core.flops(shape) == 3 * int(mask_by_hand(core, 31).sum()) * 2 * (4 + 5)
    assert core.flops(shape) <= core.executed_flops(shape)


def test_random_blocks_are_neither_near_nor_global_and_differ_by_head_row_and_seed():
    core, other = build(seq_len=4096), build(seq_len=4096, seed=1)
    (drawn, is_drawn), (again, _), (of_other, _) = (
        c._draw(8, 64, CPU) for c in (core, core, other)
    )
    assert torch.equal(drawn, again)
    assert not torch.equal(drawn, of_other)
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[:, 20], drawn[:, 21])
    inner = drawn[:, 1:-1]
    assert is_drawn[:, 1:-1].all()
    assert not is_drawn[:, [0, -1]].any()
    assert inner.min() > 0
    assert inner.max() < 63
    assert (inner - torch.arange(1, 63)[:, None]).abs().min() > 1
