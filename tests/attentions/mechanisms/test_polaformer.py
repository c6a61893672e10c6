import math

import pytest
import torch

from attentions import Geometry, build_attention


def geometry(**changes):
    sizes = {"num_heads": 2, "head_dim": 4, "seq_len": 6, "value_dim": 6} | changes
    return Geometry(**sizes)


def build(name="polaformer", settings=None, **changes):
    torch.manual_seed(0)
    mechanism = build_attention(name, geometry(**changes), **(settings or {})).double()
    with torch.no_grad():
        for parameter in mechanism.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return mechanism


def parts(x, scale, power):
    """x+ and x- of one vector, number by number."""
    positive, negative = [], []
    for x_c, s, w in zip(x.tolist(), scale.tolist(), power.tolist(), strict=True):
        x_c, p = x_c / math.log1p(math.exp(s)), 1 + 4 / (1 + math.exp(-w))
        positive.append(max(x_c, 0) ** p)
        negative.append(max(-x_c, 0) ** p)
    return (torch.tensor(part, dtype=torch.float64) for part in (positive, negative))


def by_hand(core, q, k, v, eps=1e-6):
    """Each half of the values by a mean over keys of its own."""
    out, first = torch.zeros(*q.shape[:3], v.shape[-1], dtype=q.dtype), -(-v.shape[-1] // 2)
    scale = core.scale.unflatten(0, core.power.shape)
    for b, h, i in torch.cartesian_prod(*(torch.arange(n) for n in q.shape[:3])).tolist():
        q_plus, q_minus = parts(q[b, h, i], scale[h], core.power[h])
        totals = [eps, eps]
        for j in range(k.shape[2]):
            k_plus, k_minus = parts(k[b, h, j], scale[h], core.power[h])
            same = float(q_plus @ k_plus + q_minus @ k_minus) / k.shape[2]
            unlike = float(q_plus @ k_minus + q_minus @ k_plus) / k.shape[2]
            out[b, h, i, :first] += same * v[b, h, j, :first]
            out[b, h, i, first:] += unlike * v[b, h, j, first:]
            totals = [totals[0] + same, totals[1] + unlike]
        out[b, h, i, :first] /= totals[0]
        out[b, h, i, first:] /= totals[1]
    return out


@pytest.mark.parametrize("value_dim", [1, 5, 6])
def test_it_is_the_formula_of_the_paper(value_dim, qkv):
    q, k, v = qkv(2, 2, 6, 4, key_len=5, value_dim=value_dim)
    core = build(value_dim=value_dim)
    expected = by_hand(core, q, k, v).detach()
    torch.testing.assert_close(core(q, k, v).detach(), expected)
    torch.testing.assert_close(core.reference(q, k, v).detach(), expected)


def test_powers_start_half_way_and_scales_at_the_softplus_of_zero():
    core = build_attention("polaformer", geometry(), alpha=6)
    q = torch.eye(4).expand(1, 2, 4, 4)
    phi = (1 / math.log(2)) ** (1 + 6 / 2)
    out = core(q, q[:, :, :1], torch.ones(1, 2, 1, 6))
    weight = phi * phi
    torch.testing.assert_close(out[0, 0, 0, 0].item(), weight / (weight + 1e-6))


def test_like_and_unlike_signs_read_different_halves_of_v():
    core, v = build_attention("polaformer", geometry()), torch.ones(1, 2, 1, 6)
    q = torch.ones(1, 2, 1, 4)
    like, unlike = core(q, q, v), core(q, -q, v)
    assert like[..., :3].gt(0.9).all() and like[..., 3:].eq(0).all()
    assert unlike[..., :3].eq(0).all() and unlike[..., 3:].gt(0.9).all()


def test_eps_is_added_to_the_mean_weights(qkv):
    q, k, v = qkv(1, 2, 6, 4, value_dim=6)
    core = build(settings={"eps": 3.0})
    torch.testing.assert_close(core(q, k, v).detach(), by_hand(core, q, k, v, 3.0).detach())


# The layer.


@pytest.mark.parametrize("sr_ratio", [1, 2])
def test_a_layer_projects_mixes_restores_rank_and_gates(sr_ratio):
    grid = (4, 6)
    layer = build("polaformer_layer", {"sr_ratio": sr_ratio}, seq_len=24, value_dim=4, grid=grid)
    x = torch.randn(2, 24, 8, dtype=torch.float64)

    def heads(y):
        return y.unflatten(-1, (2, 4)).transpose(1, 2)

    (q, gate), (k, v) = (
        projected.chunk(2, dim=-1)
        for projected in (layer.qg(x), layer.kv(layer.reduced.reference(x)))
    )
    mixed = by_hand(layer.core, heads(q), heads(k + layer.positional_encoding), heads(v))
    if sr_ratio == 1:  # the stretched form has a test of its own
        images = heads(v).flatten(0, 1).transpose(1, 2).unflatten(-1, grid)
        mixed = mixed + layer.dwc(images).flatten(2).transpose(1, 2).unflatten(0, (2, 2))
        expected = layer.proj(mixed.transpose(1, 2).flatten(2) * gate)
        torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer(x), layer.reference(x))


def test_biases_can_be_left_out():
    layer = build("polaformer_layer", {"qkv_bias": False}, value_dim=4)
    assert layer.qg.bias is None and layer.kv.bias is None and layer.proj.bias is not None
