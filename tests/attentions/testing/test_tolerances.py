"""A failure says what, in which dtype, of which shape, by how much, and what is allowed."""

import re

import pytest
import torch

from attentions.testing.check import Broken
from attentions.testing.tolerances import (
    AUTOCAST,
    TOLERANCES,
    require_near,
    require_near_gradients,
)


def test_a_failure_names_dtype_shape_error_and_tolerance():
    want = torch.full((2, 3), 4.0)
    said = (
        "the output in float32 of shape (2, 3) is off by 0.4 where the largest entry is 4; "
        "1e-05 of that is allowed"
    )
    with pytest.raises(Broken, match=f"^{re.escape(said)}$"):
        require_near(want * 1.1, want, "the output")
    with pytest.raises(Broken, match=r"of shape \(3, 2\), not \(2, 3\)"):
        require_near(want.mT, want, "the output")


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_the_border_is_where_the_table_says(dtype):
    allowed = TOLERANCES[dtype].output
    want = torch.tensor([-8.0, 1.0], dtype=torch.float64)
    off = torch.tensor([8.0 * allowed, 0.0], dtype=torch.float64)
    require_near((want + 0.5 * off).to(dtype), want, "the output")
    with pytest.raises(Broken):
        require_near((want + 2 * off).to(dtype), want, "the output")


def test_a_gradient_that_is_zero_but_for_rounding_is_near():
    zero = torch.zeros(3)
    require_near_gradients([zero + 5e-5], [zero], "the output")
    with pytest.raises(Broken, match="gradient 1 of the output in float32"):
        require_near_gradients([zero, zero + 5e-4], [zero, zero], "the output")


def test_what_is_not_finite_is_not_near_and_autocast_has_a_row_of_its_own():
    one = torch.ones(2)
    with pytest.raises(Broken, match="off by nan"):
        require_near(one * torch.nan, one, "the output")
    require_near(one * 1.05, one, "the output", AUTOCAST)


def test_an_output_of_small_numbers_is_held_to_these():
    want = torch.full((2,), 1e-6)
    with pytest.raises(Broken, match="off by 1e-07 where the largest entry is 1e-06"):
        require_near(want * 1.1, want, "the output")
