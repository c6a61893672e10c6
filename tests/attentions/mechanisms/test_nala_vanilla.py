from functools import partial

import pytest
import torch

from tests.attentions.calls import built

build = partial(built, "nala_vanilla", grid=(3, 5), head_dim=8)


@pytest.mark.parametrize("settings", [{"rope": False}, {"head_dim": 4}], ids=str)
def test_settings_that_no_golden_has_give_what_the_slow_form_gives(settings):
    layer = build(stir=0.3, **settings)
    x = torch.randn(2, 15, layer.geometry.embed_dim, dtype=torch.float64)
    torch.testing.assert_close(layer(x), layer.reference(x))
