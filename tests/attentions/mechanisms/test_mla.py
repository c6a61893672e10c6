import math
from functools import partial

import pytest
import torch

from tests.attentions.calls import built

CPU = torch.device("cpu")


build = partial(built, "mla", num_heads=3, seq_len=9)


def tokens(layer, batch_size=2):
    g = layer.geometry
    return torch.randn(batch_size, g.seq_len, g.embed_dim, dtype=torch.float64)


def layer_by_hand(layer, x):
    """Equations 9 to 19, one pair of tokens and one head at a time: (N, C) -> (N, C)."""
    g, rope_dim = layer.geometry, layer.rope_dim
    weights = {name: p.detach() for name, p in layer.named_parameters()}

    def norm(y, weight):
        return y if weight is None else y / (y.pow(2).mean() + 1e-6).sqrt() * weight

    def turned(y, position):
        out = y.clone()
        for p in range(0, rope_dim, 2):
            angle = position * 10_000 ** (-p / rope_dim)
            out[p] = y[p] * math.cos(angle) - y[p + 1] * math.sin(angle)
            out[p + 1] = y[p] * math.sin(angle) + y[p + 1] * math.cos(angle)
        return out

    latents, rope_keys, queries = [], [], []
    for position, token in enumerate(x):
        down = weights["kv_down.weight"] @ token
        latents.append(norm(down[: layer.kv_rank], weights.get("kv_norm.weight")))  # Eq. 9
        rope_keys.append(turned(down[layer.kv_rank :], position))  # Eq. 15
        if "q_down.0.weight" in weights:
            token = norm(weights["q_down.0.weight"] @ token, weights.get("q_down.1.weight"))
        heads = (weights["q_up.weight"] @ token).unflatten(0, (g.num_heads, -1))
        queries.append(
            [(h[: g.head_dim], turned(h[g.head_dim :], position)) for h in heads]
        )  # Eq. 13, 14
    rows = []
    for i in range(len(x)):
        mixed = []
        for h in range(g.num_heads):
            plain, rope_query = queries[i][h]
            exponentials, values = [], []
            for j in range(i + 1 if g.causal else len(x)):
                key = weights["k_up.weight"].unflatten(0, (g.num_heads, -1))[h] @ latents[j]
                score = plain @ key + rope_query @ rope_keys[j]
                exponentials.append(math.exp(score / math.sqrt(g.head_dim + rope_dim)))  # Eq. 18
                values.append(
                    weights["v_up.weight"].unflatten(0, (g.num_heads, -1))[h] @ latents[j]
                )
            total = sum(exponentials)
            mixed.append(sum(e / total * v for e, v in zip(exponentials, values, strict=True)))
        rows.append(weights["proj.weight"] @ torch.cat(mixed))
    return torch.stack(rows)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"rope": False},
        {"rope_dim": 6},
        {"query_rank": 5},
        {"latent_norm": False},
        {"kv_rank": 1},
        {"value_dim": 2},
        {"value_dim": 10},
    ],
    ids=str,
)
@pytest.mark.parametrize("causal", [False, True])
def test_it_is_the_formula_of_the_paper(causal, settings):
    layer = build(causal, **settings)
    x = tokens(layer)
    expected = torch.stack([layer_by_hand(layer, row) for row in x])
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer.reference(x), expected)


@pytest.mark.parametrize("settings", [{}, {"rope": False}, {"query_rank": 5}], ids=str)
def test_steps_equal_the_causal_forward_with_every_setting(settings):
    layer = build(causal=True, **settings)
    x = tokens(layer)
    state, outputs = layer.init_state(2, dtype=torch.float64, device=CPU), []
    for part in x.split([4, 1, 1, 3], dim=1):
        before = [kept.clone() for kept in state.filled()]
        out, after = layer.step(part, state)
        assert all(torch.equal(a, b) for a, b in zip(state.filled(), before, strict=True))
        outputs, state = [*outputs, out], after
    torch.testing.assert_close(torch.cat(outputs, dim=1), layer(x))


def test_the_cache_is_made_for_all_tokens_and_refuses_more():
    layer = build(causal=True)
    x = tokens(layer)
    empty = layer.init_state(2, dtype=torch.float64, device=CPU)
    _, state = layer.step(x, empty)
    assert state.latents.data_ptr() == empty.latents.data_ptr()
    with pytest.raises(ValueError, match="mla: a state for 9 tokens holds 9, and 1 more were"):
        layer.step(x[:, :1], state)
    with pytest.raises(ValueError, match=r"mla: a latent is of shape \(1, 1, \d+\)"):
        layer.step(x[:1, :1], empty)
