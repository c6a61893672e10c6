import math

import torch

from tests.attentions.calls import built


def test_powers_start_half_way_and_scales_at_the_softplus_of_zero():
    core = built("polaformer", seq_len=6, value_dim=6, alpha=6).float()
    q = torch.eye(4).expand(1, 2, 4, 4)
    phi = (1 / math.log(2)) ** (1 + 6 / 2)
    out = core(q, q[:, :, :1], torch.ones(1, 2, 1, 6))
    weight = phi * phi
    torch.testing.assert_close(out[0, 0, 0, 0].item(), weight / (weight + 1e-6))


def test_a_layer_on_a_reduced_grid_gives_what_its_slow_form_gives():
    layer = built("polaformer_layer", grid=(4, 6), stir=0.5, sr_ratio=2)
    x = torch.randn(2, 24, 8, dtype=torch.float64)
    torch.testing.assert_close(layer(x), layer.reference(x))
