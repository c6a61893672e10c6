import pytest
import torch
from torch.nn import functional

from attentions import Geometry, build_attention


def build(seq_len=9, **settings):
    geometry = Geometry(num_heads=2, head_dim=4, seq_len=seq_len, value_dim=3, causal=True)
    return build_attention("gated_deltanet", geometry, **settings).double()


def gates_of(length):
    return {
        "beta": torch.rand(1, 2, length, dtype=torch.float64),
        "log_decay": -torch.rand(1, 2, length, dtype=torch.float64),
    }


def test_it_is_the_recurrence(qkv):
    q, k, v = qkv(1, 2, 9, 4, value_dim=3)
    gates = gates_of(9)
    core = build()
    out, s = core(q, k, v, **gates), torch.zeros(4, 3, dtype=torch.float64)
    identity = torch.eye(4, dtype=torch.float64)
    for i in range(9):
        key = k[0, 1, i] / (k[0, 1, i].pow(2).sum() + 1e-6).sqrt()
        alpha, beta = gates["log_decay"][0, 1, i].exp(), gates["beta"][0, 1, i]
        s = alpha * (identity - beta * torch.outer(key, key)) @ s
        s = s + beta * torch.outer(key, v[0, 1, i])
        torch.testing.assert_close(out[0, 1, i], q[0, 1, i] @ s / 2)
    torch.testing.assert_close(core.reference(q, k, v, **gates), out)


def test_without_a_decay_it_is_deltanet(qkv):
    q, k, v = qkv(1, 2, 130, 4, value_dim=3)
    geometry = Geometry(num_heads=2, head_dim=4, seq_len=130, value_dim=3, causal=True)
    beta = gates_of(130)["beta"]
    nothing = torch.zeros(1, 2, 130, dtype=torch.float64)
    expected = build_attention("deltanet", geometry)(q, k, v, beta=beta)
    torch.testing.assert_close(build(130)(q, k, v, beta=beta, log_decay=nothing), expected)


def test_without_gates_heads_have_learned_values(qkv):
    q, k, v = qkv(1, 2, 9, 4, value_dim=3)
    core = build()
    rates = core.log_rate.exp()
    assert 1e-3 < rates[0] < rates[1] < 1.6
    log_decay = -rates[None, :, None].expand(1, 2, 9)
    beta = torch.full((1, 2, 9), 0.5, dtype=torch.float64)
    expected = core(q, k, v, beta=beta, log_decay=log_decay)
    torch.testing.assert_close(core(q, k, v), expected)
    torch.testing.assert_close(core(q, k, v, beta=beta), expected)
    torch.testing.assert_close(core(q, k, v, log_decay=log_decay), expected)


def build_layer(value_dim=3, **settings):
    geometry = Geometry(num_heads=2, head_dim=4, seq_len=70, value_dim=value_dim, causal=True)
    return build_attention("gated_deltanet_layer", geometry, **settings).double()


def layer_by_hand(layer, x):
    """The paper's block for one sequence, token by token."""
    mixed = (layer.qkv.weight @ x.T).T
    if layer.conv is not None:
        size = layer.conv.kernel_size[0]
        padded = torch.cat((torch.zeros(size - 1, mixed.shape[1], dtype=x.dtype), mixed))
        mixed = sum(layer.conv.weight[:, 0, t] * padded[t : t + len(x)] for t in range(size))
    q, k, v = functional.silu(mixed).split([8, 8, 6], dim=-1)
    a, b = (layer.ab.weight @ x.T).T.split([2, 2], dim=-1)
    beta = torch.sigmoid(b)
    alpha = (-layer.decay.log_rate.exp() * functional.softplus(a + layer.decay.step_bias)).exp()
    s, rows = [torch.zeros(4, 3, dtype=x.dtype) for _ in range(2)], []
    for i in range(len(x)):
        heads = []
        for h in range(2):
            query, key = (
                t[i, 4 * h : 4 * h + 4] / (t[i, 4 * h : 4 * h + 4].pow(2).sum() + 1e-6).sqrt()
                for t in (q, k)
            )
            s[h] = alpha[i, h] * s[h]
            new = beta[i, h] * (v[i, 3 * h : 3 * h + 3] - key @ s[h])
            s[h] = s[h] + torch.outer(key, new)
            heads.append(layer.norm(query @ s[h] / 2))
        row = torch.cat(heads)
        if layer.gate is not None:
            row = row * functional.silu(layer.gate.weight @ x[i])
        rows.append(layer.proj.weight @ row)
    return torch.stack(rows)


@pytest.mark.parametrize("settings", [{}, {"conv_size": 0}, {"conv_size": 2, "output_gate": False}])
def test_the_layer_is_that_of_the_paper(settings):
    layer = build_layer(**settings)
    x = torch.randn(1, 70, 8, dtype=torch.float64)
    expected = layer_by_hand(layer, x[0])
    torch.testing.assert_close(layer(x)[0], expected)
    torch.testing.assert_close(layer.reference(x)[0], expected)
