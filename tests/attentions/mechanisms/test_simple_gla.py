import math

import torch

from attentions import Geometry, build_attention


def build(seq_len=9, **settings):
    geometry = Geometry(num_heads=2, head_dim=4, seq_len=seq_len, value_dim=3, causal=True)
    return build_attention("simple_gla", geometry, **settings).double()


def decays(length):
    return {"log_decay": -torch.rand(1, 2, length, dtype=torch.float64)}


def test_it_is_the_recurrence(qkv):
    q, k, v = qkv(1, 2, 9, 4, value_dim=3)
    gates = decays(9)
    core = build()
    out, s = core(q, k, v, **gates), torch.zeros(4, 3, dtype=torch.float64)
    for i in range(9):
        s = gates["log_decay"][0, 1, i].exp() * s + torch.outer(k[0, 1, i], v[0, 1, i])
        torch.testing.assert_close(out[0, 1, i], q[0, 1, i] @ s / 2)
    torch.testing.assert_close(core.reference(q, k, v, **gates), out)


def test_without_gates_a_head_has_one_learned_decay(qkv):
    q, k, v = qkv(1, 2, 9, 4, value_dim=3)
    core = build()
    with torch.no_grad():
        core.decay_logit[1] = 2.0
    given = torch.tensor([math.log(0.5), -math.log1p(math.exp(-2.0))]) / 16
    given = given.double()[None, :, None].expand(1, 2, 9)
    torch.testing.assert_close(core(q, k, v), core(q, k, v, log_decay=given), rtol=1e-6, atol=1e-7)


def test_a_decay_of_nothing_leaves_the_newest_token_alone(qkv):
    q, k, v = qkv(1, 2, 9, 4, value_dim=3)
    out = build()(q, k, v, log_decay=torch.full((1, 2, 9), -torch.inf, dtype=torch.float64))
    torch.testing.assert_close(out, (q * k).sum(-1, keepdim=True) / 2 * v)
