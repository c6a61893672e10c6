import math

import pytest
import torch

from attentions import Geometry, build_attention


def geometry(**changes):
    sizes = {"num_heads": 2, "head_dim": 4, "seq_len": 7, "value_dim": 3} | changes
    return Geometry(**sizes)


def build(**settings):
    return build_attention("linformer", geometry(), **{"projected_len": 5} | settings).double()


def by_hand(core, q, k, v):
    """Projected rows one by one, and a softmax over them for each query."""
    proj_k = core.proj_k.detach()
    proj_v = proj_k if core.proj_v is None else core.proj_v.detach()
    out = torch.zeros(*q.shape[:3], v.shape[-1], dtype=q.dtype)
    for b, h in torch.cartesian_prod(*(torch.arange(n) for n in q.shape[:2])).tolist():
        rows = range(core.projected_len)
        keys = [sum(proj_k[j, p] * k[b, h, j] for j in range(k.shape[2])) for p in rows]
        values = [sum(proj_v[j, p] * v[b, h, j] for j in range(v.shape[2])) for p in rows]
        for i in range(q.shape[2]):
            shares = [math.exp(float(q[b, h, i] @ key) / math.sqrt(q.shape[-1])) for key in keys]
            out[b, h, i] = sum(s * value for s, value in zip(shares, values, strict=True))
            out[b, h, i] /= sum(shares)
    return out


@pytest.mark.parametrize("share_kv", [False, True])
@pytest.mark.parametrize("seq_len", [7, 4])
def test_it_is_the_formula_of_the_paper(share_kv, seq_len, qkv):
    q, k, v = qkv(2, 2, seq_len, 4, value_dim=3)
    core = build(share_kv=share_kv)
    expected = by_hand(core, q, k, v)
    torch.testing.assert_close(core(q, k, v).detach(), expected)
    torch.testing.assert_close(core.reference(q, k, v).detach(), expected)


def test_sharing_leaves_one_projection():
    assert {n for n, _ in build(share_kv=True).named_parameters()} == {"proj_k"}
    assert {n for n, _ in build().named_parameters()} == {"proj_k", "proj_v"}


def test_projections_start_uniform_within_one_over_the_root_of_their_length():
    core = build_attention("linformer", geometry(seq_len=100), projected_len=16)
    for projection in core.parameters():
        assert projection.shape == (100, 16)
        assert 0.2 < projection.abs().max() <= 0.25


@pytest.mark.parametrize("values_are_keys", [False, True])
@pytest.mark.parametrize("share_kv", [False, True])
def test_a_layer_projects_channels_around_it(share_kv, values_are_keys):
    settings = {"projected_len": 5, "share_kv": share_kv, "values_are_keys": values_are_keys}
    layer = build_attention("linformer_layer", geometry(value_dim=4), **settings).double()
    x = torch.randn(2, 7, 8, dtype=torch.float64)
    to_v = layer.to_k if values_are_keys else layer.to_v
    q, k, v = (
        part(x).detach().unflatten(-1, (2, 4)).transpose(1, 2)
        for part in (layer.to_q, layer.to_k, to_v)
    )
    expected = layer.to_out(by_hand(layer.core, q, k, v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer.reference(x), expected)
    assert (layer.to_v is None) == values_are_keys
