from functools import partial

import pytest
import torch

from tests.attentions.calls import built

build = partial(built, "lightning", True, seq_len=9, value_dim=3)


def slopes(core):
    return [-x for x in core.head_log_decay(torch.device("cpu")).tolist()]


@pytest.mark.parametrize(
    ("num_heads", "expected"),
    [
        (1, [2**-8]),
        (2, [2**-4, 2**-8]),
        (3, [2**-4, 2**-8, 2**-2]),
        (6, [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3]),
        (8, [2.0**-n for n in range(1, 9)]),
    ],
)
def test_slopes_are_those_of_alibi(num_heads, expected):
    assert slopes(build(num_heads=num_heads)) == pytest.approx(expected, rel=1e-14)


def test_slopes_as_printed_grow_evenly_from_no_decay_at_all():
    assert slopes(build(num_heads=4, slopes="linear")) == pytest.approx([0, 2, 4, 6])


def test_a_layers_factor_scales_its_slopes():
    factor = 1 - 3 / 11 + 1e-5  # layer 3 of 12
    expected = [factor * s for s in slopes(build())]
    assert slopes(build(slope_scale=factor)) == pytest.approx(expected)
