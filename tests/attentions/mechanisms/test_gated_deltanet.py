"""The layer around Gated DeltaNet; test_recurrences has the core."""

import pytest
import torch
from torch.nn import functional

from attentions import Geometry, build_attention


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
    of_beta, of_decay = layer.gates["beta"], layer.gates["log_decay"]
    beta = torch.sigmoid((of_beta.project.weight @ x.T).T)
    a, decay = (of_decay.project.weight @ x.T).T, of_decay.decay
    alpha = (-decay.log_rate.exp() * functional.softplus(a + decay.step_bias)).exp()
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
