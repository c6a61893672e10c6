import math
from functools import partial

import pytest
import torch
from torch.nn import functional

from tests.attentions.calls import built

build = partial(built, value_dim=3, stir=0.5)


def share(scores):
    exponentials = [math.exp(s) for s in scores]
    return [e / sum(exponentials) for e in exponentials]


def mixed_by_hand(q, k, v, agents, key_bias, query_bias):
    """One head: agents gather values by softmax, and queries read agents by softmax."""
    scale = math.sqrt(q.shape[-1])
    gathered = []
    for a, agent in enumerate(agents):
        shares = share(
            [float(agent @ k_j) / scale + float(key_bias[a, j]) for j, k_j in enumerate(k)]
        )
        gathered.append(sum(s * v[j] for j, s in enumerate(shares)))
    out = torch.zeros(len(q), v.shape[-1], dtype=q.dtype)
    for i, q_i in enumerate(q):
        shares = share(
            [float(q_i @ agent) / scale + float(query_bias[i, a]) for a, agent in enumerate(agents)]
        )
        out[i] = sum(s * gathered[a] for a, s in enumerate(shares))
    return out


def test_without_biases_agents_are_means_of_patches(qkv):
    core = build("agent", grid=(4, 6), num_agents=4, bias=False)
    q, k, v = qkv(1, 2, 24, 4, value_dim=3)
    for h in range(2):
        image = q[0, h].unflatten(0, (4, 6))
        patches = (image[:2, :3], image[:2, 3:], image[2:, :3], image[2:, 3:])
        agents = [patch.mean(dim=(0, 1)) for patch in patches]
        expected = mixed_by_hand(
            q[0, h], k[0, h], v[0, h], agents, torch.zeros(4, 24), torch.zeros(24, 4)
        )
        torch.testing.assert_close(core(q, k, v)[0, h], expected)
        torch.testing.assert_close(core.reference(q, k, v)[0, h], expected)


@pytest.mark.parametrize("class_token", [False, True])
def test_biases_are_tables_stretched_over_the_grid_with_rows_and_columns(class_token, qkv):
    side = 3  # for which 7 x 7 tables shrink: place i is 7 / 3 (i + 1/2) - 1/2 in the table
    sizes = {"seq_len": side**2 + class_token, "num_heads": 1}
    core = build("agent", **sizes, num_agents=1, class_token=class_token)
    q, k, v = qkv(1, 1, side**2 + class_token, 4, value_dim=3)

    def stretched(table, row, column):
        places = [7 / side * (i + 0.5) - 0.5 for i in (row, column)]
        lefts = [math.floor(p) for p in places]
        (a, b), (i, j) = (p - left for p, left in zip(places, lefts, strict=True)), lefts
        return (
            (1 - a) * (1 - b) * table[i, j]
            + (1 - a) * b * table[i, j + 1]
            + a * (1 - b) * table[i + 1, j]
            + a * b * table[i + 1, j + 1]
        )

    core.requires_grad_(False)
    key_bias = torch.zeros(1, len(q[0, 0]), dtype=torch.float64)
    query_bias = key_bias.T.clone()
    if class_token:
        key_bias[0, 0], query_bias[0, 0] = core.ac_bias[0, 0, 0], core.ca_bias[0, 0, 0]
    for row in range(side):
        for column in range(side):
            token = row * side + column + class_token
            key_bias[0, token] = (
                stretched(core.an_bias[0, 0], row, column)
                + core.ah_bias[0, 0, row, 0]
                + core.aw_bias[0, 0, 0, column]
            )
            query_bias[token, 0] = (
                stretched(core.na_bias[0, 0], row, column)
                + core.ha_bias[0, row, 0, 0]
                + core.wa_bias[0, 0, column, 0]
            )
    agent = q[0, 0, int(class_token) :].mean(dim=0)
    expected = mixed_by_hand(q[0, 0], k[0, 0], v[0, 0], [agent], key_bias, query_bias)
    out = core(q, k, v)[0, 0]
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(core(q, k, v), core.reference(q, k, v))


@pytest.mark.parametrize("grid", [(1, 1), (3, 4), (7, 7), (10, 15)])
def test_agents_may_be_more_than_tokens_and_patches_may_overlap(grid, qkv):
    core = build("agent", grid=grid)
    tensors = qkv(1, 2, grid[0] * grid[1], 4, value_dim=3)
    torch.testing.assert_close(core(*tensors), core.reference(*tensors))


def test_biases_start_small():
    core = built("agent", grid=(4, 6))
    for parameter in core.parameters():
        assert 0 < parameter.abs().max() <= 2
        assert parameter.abs().mean() < 0.02


@pytest.mark.parametrize("sizes", [{"grid": (4, 6)}, {"seq_len": 10}], ids=str)
def test_a_layer_adds_a_convolution_on_the_grid(sizes):
    beside = 0 if "grid" in sizes else 1
    settings = {"num_agents": 4, "class_token": beside == 1}
    layer = build("agent_layer", value_dim=4, **sizes, **settings)
    x = torch.randn(2, layer.geometry.seq_len, 8, dtype=torch.float64)
    q, k, v = layer.qkv(x).chunk(3, dim=-1)
    mixed = layer.core.reference(*(y.unflatten(-1, (2, 4)).transpose(1, 2) for y in (q, k, v)))
    mixed = mixed.transpose(1, 2).flatten(2)
    image = v[:, beside:].transpose(1, 2).unflatten(-1, layer.core.grid)
    local = functional.conv2d(image, layer.dwc.weight, layer.dwc.bias, padding=1, groups=8)
    local = local.flatten(2).transpose(1, 2)
    expected = torch.cat((mixed[:, :beside], mixed[:, beside:] + local), dim=1)
    torch.testing.assert_close(layer(x), layer.proj(expected))
    torch.testing.assert_close(layer.reference(x), layer.proj(expected))
