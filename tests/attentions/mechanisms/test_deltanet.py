import torch
from torch.nn import functional

from attentions import Geometry, build_attention


def build(seq_len=9, **settings):
    geometry = Geometry(num_heads=2, head_dim=4, seq_len=seq_len, value_dim=3, causal=True)
    return build_attention("deltanet", geometry, **settings).double()


def betas(length):
    return {"beta": torch.rand(1, 2, length, dtype=torch.float64)}


def test_it_is_the_recurrence(qkv):
    q, k, v = qkv(1, 2, 9, 4, value_dim=3)
    gates = betas(9)
    core = build()
    out, s = core(q, k, v, **gates), torch.zeros(4, 3, dtype=torch.float64)
    for i in range(9):
        key = k[0, 1, i] / (k[0, 1, i].pow(2).sum() + 1e-6).sqrt()
        s = s + torch.outer(key, gates["beta"][0, 1, i] * (v[0, 1, i] - key @ s))
        torch.testing.assert_close(out[0, 1, i], q[0, 1, i] @ s / 2)
    torch.testing.assert_close(core.reference(q, k, v, **gates), out)


def test_a_beta_of_one_stores_a_value_that_its_key_reads_back(qkv):
    _, k, v = qkv(1, 2, 130, 4, value_dim=3)
    k = functional.normalize(k, dim=-1)
    out = build(130, normalise_keys=False, scale=1)(k, k, v, beta=torch.ones(1, 2, 130).double())
    torch.testing.assert_close(out, v)


def test_a_beta_of_zero_writes_nothing(qkv):
    q, k, v = qkv(1, 2, 130, 4, value_dim=3)
    assert build(130)(q, k, v, beta=torch.zeros(1, 2, 130).double()).eq(0).all()


def test_without_gates_a_head_has_one_learned_beta_that_starts_at_a_half(qkv):
    q, k, v = qkv(1, 2, 9, 4, value_dim=3)
    core = build()
    torch.testing.assert_close(core(q, k, v), core(q, k, v, beta=torch.full((1, 2, 9), 0.5)))
    with torch.no_grad():
        core.beta_logit[0] = 30.0
    beta = torch.tensor([1.0, 0.5]).double()[None, :, None].expand(1, 2, 9)
    torch.testing.assert_close(core(q, k, v), core(q, k, v, beta=beta))


def test_long_keys_diverge_unless_they_are_normalised(qkv):
    q, k, v = qkv(1, 2, 130, 4, value_dim=3)
    beta = torch.ones(1, 2, 130, dtype=torch.float64)
    tame = build(130)(q, 20 * k, v, beta=beta)
    assert tame.abs().max() < 50
    wild = build(130, normalise_keys=False)(q, 20 * k, v, beta=beta)
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
