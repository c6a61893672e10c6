import pytest
import torch
from torch.nn import functional

from attentions import Geometry, build_attention


def build(seq_len=9, **settings):
    geometry = Geometry(num_heads=2, head_dim=4, seq_len=seq_len, value_dim=3, causal=True)
    return build_attention("mamba2_ssd", geometry, **settings).double()


def decays(length):
    return {"log_decay": -torch.rand(1, 2, length, dtype=torch.float64)}


def test_it_is_the_state_space_model_with_c_b_and_x_for_q_k_and_v(qkv):
    c, b, x = qkv(1, 2, 9, 4, value_dim=3)
    gates = decays(9)
    core = build()
    y, h = core(c, b, x, **gates), torch.zeros(4, 3, dtype=torch.float64)
    for t in range(9):
        h = gates["log_decay"][0, 1, t].exp() * h + torch.outer(b[0, 1, t], x[0, 1, t])
        torch.testing.assert_close(y[0, 1, t], c[0, 1, t] @ h)
    torch.testing.assert_close(core.reference(c, b, x, **gates), y)


def test_without_gates_a_head_has_one_learned_decay(qkv):
    q, k, v = qkv(1, 2, 9, 4, value_dim=3)
    core = build()
    rates = core.log_rate.exp()
    assert 1e-3 < rates[0] < rates[1] < 1.6
    given = -rates[None, :, None].expand(1, 2, 9)
    torch.testing.assert_close(core(q, k, v), core(q, k, v, log_decay=given))


def build_layer(num_heads=2, **settings):
    geometry = Geometry(num_heads=num_heads, head_dim=4, seq_len=70, value_dim=3, causal=True)
    return build_attention("mamba2_ssd_layer", geometry, **settings).double()


def layer_by_hand(layer, x):
    """The paper's block for one sequence of two heads, token by token."""
    groups = layer.num_groups
    z, mixed, dt = (layer.in_proj.weight @ x.T).T.split([6, 6 + 8 * groups, 2], dim=-1)
    if layer.conv is not None:
        size = layer.conv.kernel_size[0]
        padded = torch.cat((torch.zeros(size - 1, mixed.shape[1], dtype=x.dtype), mixed))
        mixed = sum(layer.conv.weight[:, 0, t] * padded[t : t + len(x)] for t in range(size))
        mixed = mixed + layer.conv.bias
    v, b, c = functional.silu(mixed).split([6, 4 * groups, 4 * groups], dim=-1)
    dt = functional.softplus(dt + layer.decay.step_bias)
    a = -layer.decay.log_rate.exp()
    h, rows = [torch.zeros(4, 3, dtype=x.dtype) for _ in range(2)], []
    for t in range(len(x)):
        heads = []
        for n in range(2):
            group = slice(4 * (n * groups // 2), 4 * (n * groups // 2) + 4)
            value = v[t, 3 * n : 3 * n + 3]
            h[n] = (dt[t, n] * a[n]).exp() * h[n]
            h[n] = h[n] + dt[t, n] * torch.outer(b[t, group], value)
            heads.append(c[t, group] @ h[n] + layer.skip[n] * value)
        y = torch.cat(heads) * functional.silu(z[t])
        rows.append(layer.out_proj.weight @ layer.norm(y))
    return torch.stack(rows)


@pytest.mark.parametrize("settings", [{}, {"conv_size": 0}, {"conv_size": 2, "num_groups": 2}])
def test_the_layer_is_that_of_the_paper(settings):
    layer = build_layer(**settings)
    x = torch.randn(1, 70, 8, dtype=torch.float64)
    expected = layer_by_hand(layer, x[0])
    torch.testing.assert_close(layer(x)[0], expected)
    torch.testing.assert_close(layer.reference(x)[0], expected)
