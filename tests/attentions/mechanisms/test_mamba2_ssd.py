"""The layer around Mamba-2; test_recurrences has the core."""

import pytest
import torch
from torch.nn import functional

from attentions import Geometry, build_attention


def build_layer(num_heads=2, **settings):
    geometry = Geometry(num_heads=num_heads, head_dim=4, seq_len=70, value_dim=3, causal=True)
    return build_attention("mamba2_ssd_layer", geometry, **settings).double()


def layer_by_hand(layer, x):
    """The paper's block for one sequence of two heads, token by token."""
    groups, steps = layer.counts[0], layer.gates["log_decay"]
    projected = (layer.gate, layer.qkv, steps.project)
    z, mixed, dt = ((part.weight @ x.T).T for part in projected)
    if layer.conv is not None:
        size = layer.conv.kernel_size[0]
        padded = torch.cat((torch.zeros(size - 1, mixed.shape[1], dtype=x.dtype), mixed))
        mixed = sum(layer.conv.weight[:, 0, t] * padded[t : t + len(x)] for t in range(size))
        mixed = mixed + layer.conv.bias
    c, b, v = functional.silu(mixed).split([4 * groups, 4 * groups, 6], dim=-1)
    dt = functional.softplus(dt + steps.decay.step_bias)
    a = -steps.decay.log_rate.exp()
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
        rows.append(layer.proj.weight @ layer.norm(y))
    return torch.stack(rows)


@pytest.mark.parametrize("settings", [{}, {"conv_size": 0}, {"conv_size": 2, "num_groups": 2}])
def test_the_layer_is_that_of_the_paper(settings):
    layer = build_layer(**settings)
    x = torch.randn(1, 70, 8, dtype=torch.float64)
    expected = layer_by_hand(layer, x[0])
    torch.testing.assert_close(layer(x)[0], expected)
    torch.testing.assert_close(layer.reference(x)[0], expected)
