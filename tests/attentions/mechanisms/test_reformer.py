import itertools
import math
from functools import partial

import pytest
import torch

from tests.attentions.calls import built

build = partial(built, "reformer", seq_len=31)


def buckets_by_hand(core, x):
    """For each round, the bucket of each token of one head: (N, D) -> rounds x N."""
    rounds = []
    for rotation in core.rotations:
        buckets = []
        for token in x:
            bucket, start = 0, 0
            for factor in core.factors:
                turned = [float(token @ c) for c in rotation.T[start : start + factor // 2]]
                signed = turned + [-t for t in turned]
                bucket = bucket * factor + signed.index(max(signed))
                start += factor // 2
            buckets.append(bucket)
        rounds.append(buckets)
    return rounds


def met_by_hand(core, x):
    """How often tokens i and j of one head meet, as the sorted and cut lists tell: (N, N)."""
    length, causal = len(x), core.geometry.causal
    size = min(core.chunk_size, length)
    met = torch.zeros(length, length, dtype=torch.long)
    for buckets in buckets_by_hand(core, x):
        order = sorted(range(length), key=lambda t, of=buckets: (of[t], t))
        lists = [order]
        if causal:  # chunks are cut within buckets
            lists = [list(g) for _, g in itertools.groupby(order, key=lambda t, of=buckets: of[t])]
        for tokens in lists:
            chunks = [tokens[c : c + size] for c in range(0, len(tokens), size)]
            for before, chunk in zip([[], *chunks], chunks, strict=False):
                for i, j in itertools.product(chunk, before + chunk):
                    alike = core.across_buckets or buckets[i] == buckets[j]
                    met[i, j] += alike and (j < i if causal else j != i)
    return met if core.count_duplicates else met.clamp(max=1)


def attention_by_hand(core, q, v):
    out = torch.zeros_like(v)
    for b, h in itertools.product(range(q.shape[0]), range(q.shape[1])):
        met = met_by_hand(core, q[b, h])
        for i, query in enumerate(q[b, h]):
            total = 0.0
            for j in met[i].nonzero().flatten().tolist():
                key = q[b, h, j] / q[b, h, j].norm()
                weight = int(met[i, j]) * math.exp(query @ key / math.sqrt(len(key)))
                total += weight
                out[b, h, i] += weight * v[b, h, j]
            out[b, h, i] = out[b, h, i] / total if total else v[b, h, i]
    return out


SETTINGS = [
    {},
    {"chunk_size": 4},
    {"chunk_size": 5, "num_rounds": 1},
    {"chunk_size": 4, "num_rounds": 3, "num_buckets": 2},
    {"chunk_size": 3, "num_rounds": 2, "num_buckets": 40, "seed": 4},
    {"chunk_size": 4, "count_duplicates": True},
    {"chunk_size": 4, "across_buckets": True},
    {"chunk_size": 7, "across_buckets": True, "count_duplicates": True},
]
FORMS = [
    (causal, settings)
    for causal in (False, True)
    for settings in SETTINGS
    if not (causal and "across_buckets" in settings)
]


@pytest.mark.parametrize(("causal", "settings"), FORMS, ids=str)
@pytest.mark.parametrize("seq_len", [1, 31])
def test_it_is_softmax_over_the_tokens_that_were_met(causal, settings, seq_len, qkv):
    q, k, v = qkv(2, 2, seq_len, 4, value_dim=3)
    core = build(causal, seq_len=seq_len, value_dim=3, **settings)
    expected = attention_by_hand(core, q, v)
    torch.testing.assert_close(core(q, k, v), expected)
    torch.testing.assert_close(core.reference(q, k, v), expected)


@pytest.mark.parametrize("causal", [False, True])
def test_gradients_are_those_of_finite_differences(causal, qkv):
    q, k, v = (x.requires_grad_() for x in qkv(1, 2, 12, 4, value_dim=3))
    core = build(causal, seq_len=12, value_dim=3, chunk_size=3, num_rounds=3)
    # A step of 1e-6 moves no token into another bucket here.
    assert torch.autograd.gradcheck(lambda q, v: core(q, k, v), (q, v), fast_mode=True)


def test_the_keys_that_are_passed_in_are_not_read(qkv):
    q, k, v = (x.requires_grad_() for x in qkv(1, 2, 31, 4))
    core = build(chunk_size=4)
    out = core(q, k, v)
    assert torch.equal(out, core(q, 7 * k, v))
    assert torch.autograd.grad(out.sum(), k, allow_unused=True) == (None,)


@pytest.mark.parametrize("num_buckets", [10, 130, 512, 2000])
def test_many_buckets_are_pairs_of_fewer(num_buckets):
    core = build(chunk_size=2, num_buckets=num_buckets)
    assert num_buckets <= core.num_buckets < 1.7 * num_buckets
    assert max(core.factors) <= math.sqrt(num_buckets) + 2
