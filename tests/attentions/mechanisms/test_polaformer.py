import math

import pytest
import torch

from tests.attentions.calls import built
from tests.attentions.mechanisms import explicit_pairs


def test_powers_start_half_way_and_scales_at_the_softplus_of_zero():
    core = built("polaformer", seq_len=6, value_dim=6, alpha=6).float()
    q = torch.eye(4).expand(1, 2, 4, 4)
    phi = (1 / math.log(2)) ** (1 + 6 / 2)
    out = core(q, q[:, :, :1], torch.ones(1, 2, 1, 6))
    weight = phi * phi
    torch.testing.assert_close(out[0, 0, 0, 0].item(), weight / (weight + 1e-6))


# The layer.


@pytest.mark.parametrize("sr_ratio", [1, 2])
def test_a_layer_projects_mixes_restores_rank_and_gates(sr_ratio):
    grid = (4, 6)
    layer = built("polaformer_layer", grid=grid, stir=0.5, sr_ratio=sr_ratio)
    x = torch.randn(2, 24, 8, dtype=torch.float64)

    def heads(y):
        return y.unflatten(-1, (2, 4)).transpose(1, 2)

    (q, gate), (k, v) = (
        projected.chunk(2, dim=-1)
        for projected in (layer.qg(x), layer.kv(layer.reduced.reference(x)))
    )
    mixed = explicit_pairs.polaformer(
        layer.core, heads(q), heads(k + layer.positional_encoding), heads(v)
    )
    if sr_ratio == 1:  # the stretched form has a test of its own
        images = heads(v).flatten(0, 1).transpose(1, 2).unflatten(-1, grid)
        mixed = mixed + layer.dwc(images).flatten(2).transpose(1, 2).unflatten(0, (2, 2))
        expected = layer.proj(mixed.transpose(1, 2).flatten(2) * gate)
        torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer(x), layer.reference(x))


def test_biases_can_be_left_out():
    layer = built("polaformer_layer", seq_len=6, qkv_bias=False)
    assert layer.qg.bias is None and layer.kv.bias is None and layer.proj.bias is not None
