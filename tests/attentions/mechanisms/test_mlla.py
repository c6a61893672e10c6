from functools import partial

import pytest
import torch

from attentions.maths.rotary import turns
from tests.attentions.calls import built

build = partial(built, "mlla", grid=(2, 3))


def test_frequencies_stop_short_of_the_slowest():
    table = turns((2, 1), 8, torch.float64, torch.device("cpu"), with_last=False)
    angles = table[1].angle().tolist()
    assert angles == pytest.approx([1.0, 0.01, 0.0, 0.0])
    assert table.dtype == torch.complex128


@pytest.mark.parametrize("settings", [{"eps": 2.0}, {"grid": (1, 5)}, {"grid": (4, 1)}], ids=str)
def test_settings_that_no_golden_has_give_what_the_slow_form_gives(settings):
    layer = build(**settings)
    x = torch.randn(2, layer.geometry.seq_len, 8, dtype=torch.float64)
    torch.testing.assert_close(layer(x), layer.reference(x))


def test_the_projection_can_do_without_a_bias():
    assert build(qk_bias=False).qk.bias is None


def test_pairs_of_channels_may_lie_in_two_heads():
    layer = build(num_heads=4, head_dim=3)
    x = torch.randn(2, 6, 12, dtype=torch.float64)
    torch.testing.assert_close(layer(x), layer.reference(x))
