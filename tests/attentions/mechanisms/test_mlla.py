from functools import partial

import pytest
import torch

from tests.attentions.calls import built

build = partial(built, "mlla", grid=(2, 3))


@pytest.mark.parametrize("settings", [{"eps": 2.0}, {"grid": (1, 5)}, {"grid": (4, 1)}], ids=str)
def test_settings_that_no_golden_has_give_what_the_slow_form_gives(settings):
    layer = build(**settings)
    x = torch.randn(2, layer.geometry.seq_len, 8, dtype=torch.float64)
    torch.testing.assert_close(layer(x), layer.reference(x))


def test_pairs_of_channels_may_lie_in_two_heads():
    layer = build(num_heads=4, head_dim=3)
    x = torch.randn(2, 6, 12, dtype=torch.float64)
    torch.testing.assert_close(layer(x), layer.reference(x))
