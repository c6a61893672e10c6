from functools import partial

import torch
from torch.nn import functional

from tests.attentions.calls import built

build = partial(built, "deltanet", True, seq_len=9, value_dim=3)


def test_a_beta_of_one_stores_a_value_that_its_key_reads_back(qkv):
    _, k, v = qkv(1, 2, 130, 4, value_dim=3)
    k = functional.normalize(k, dim=-1)
    out = build(seq_len=130, normalise_keys=False, scale=1)(
        k, k, v, beta=torch.ones(1, 2, 130).double()
    )
    torch.testing.assert_close(out, v)


def test_a_beta_of_zero_writes_nothing(qkv):
    q, k, v = qkv(1, 2, 130, 4, value_dim=3)
    assert build(seq_len=130)(q, k, v, beta=torch.zeros(1, 2, 130).double()).eq(0).all()


def test_long_keys_diverge_unless_they_are_normalised(qkv):
    q, k, v = qkv(1, 2, 130, 4, value_dim=3)
    beta = torch.ones(1, 2, 130, dtype=torch.float64)
    tame = build(seq_len=130)(q, 20 * k, v, beta=beta)
    assert tame.abs().max() < 50
    wild = build(seq_len=130, normalise_keys=False)(q, 20 * k, v, beta=beta)
    assert not wild.abs().max() < 1e50


def test_lengths_count_only_where_they_are_not_taken_out(qkv):
    q, k, v = qkv(1, 2, 9, 4, value_dim=3)
    unit_q, unit_k = (functional.normalize(x, dim=-1) for x in (q, k))
    as_they_come = build(normalise_keys=False)(unit_q, unit_k, v)
    both = build(normalise_queries=True)
    torch.testing.assert_close(both(q, k, v), as_they_come, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(both(7 * q, 7 * k, v), as_they_come, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(both.reference(q, k, v), both(q, k, v))
    torch.testing.assert_close(build()(7 * q, k, v), 7 * build()(q, k, v))
