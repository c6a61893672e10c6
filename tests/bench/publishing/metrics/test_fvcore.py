"""The verdict of fvcore on our FLOPs, from what records hold."""

import pytest

from bench.publishing.metrics.fvcore import fvcore_verdict
from tests import records as made


@pytest.mark.parametrize(
    ("seen", "unsupported", "said"),
    [
        (100, {"aten::exp": 3}, "agrees"),
        (0, {"aten::scaled_dot_product_attention": 1}, "differs, 0x: counts fused attention as 0"),
        (50, {"aten::baddbmm": 1, "aten::exp": 3}, "differs, 0.5x: counts baddbmm as 0"),
        (107, {"aten::exp": 3}, "differs, 1.1x: also prices norms, resampling or sums"),
        (70, {"aten::exp": 3}, "differs, 0.7x: reason unknown"),
        (None, {"not traced: TypeError": 1}, "not traced: TypeError"),
        (None, {}, ""),
    ],
)
@pytest.mark.parametrize(("mode", "factor"), [("forward", 1), ("forward_backward", 3)])
def test_fvcore_judges_the_forward_pass_and_says_why_it_differs(
    seen, unsupported, said, mode, factor
):
    found = {"fvcore_flops": seen, "fvcore_unsupported": unsupported}
    found |= {"flops": factor * 60, "executed_flops": factor * 100}
    cell = made.kernel_cell("mine", mode=mode)
    assert fvcore_verdict(made.ok_record(cell, made.speed([1.0], **found))) == said


def test_a_decoded_token_has_no_verdict():
    cell = made.kernel_cell("mine", mode="decode", causal=True)
    found = made.speed([1.0], fvcore_flops=100, executed_flops=1)
    assert fvcore_verdict(made.ok_record(cell, found)) == ""
