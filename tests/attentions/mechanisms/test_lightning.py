import math

import pytest
import torch

from attentions import Geometry, build_attention


def build(seq_len=9, num_heads=2, **settings):
    geometry = Geometry(num_heads=num_heads, head_dim=4, seq_len=seq_len, value_dim=3, causal=True)
    return build_attention("lightning", geometry, **settings)


def slopes(core):
    return [-x for x in core.head_log_decay(torch.device("cpu")).tolist()]


def test_it_is_the_sum_of_the_paper(qkv):
    q, k, v = qkv(2, 2, 9, 4, value_dim=3)
    core = build()
    expected = torch.zeros_like(v)
    for b, h, i in torch.cartesian_prod(*(torch.arange(n) for n in q.shape[:3])).tolist():
        for j in range(i + 1):
            decay = math.exp(-slopes(core)[h] * (i - j))
            expected[b, h, i] += decay * (q[b, h, i] @ k[b, h, j]) * v[b, h, j]
    torch.testing.assert_close(core(q, k, v), expected)
    torch.testing.assert_close(core.reference(q, k, v), expected)


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
