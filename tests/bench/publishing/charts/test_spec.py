"""Axes of pictures: values to pixels and back, margins, and ends."""

from __future__ import annotations

import pytest

from bench.publishing.charts.spec import Axis, linear_axis, log_axis


@pytest.mark.parametrize(
    ("kind", "ends"),
    [("linear", (-2.0, 8.0)), ("log", (0.5, 800.0)), ("symlog", (70.0, -1.0))],
)
def test_a_pixel_and_its_value_are_each_others_inverse(
    kind: str, ends: tuple[float, float]
) -> None:
    axis = Axis(kind=kind, ends=ends, pixels=(340, 0), constant=0.5)
    assert [axis.pixel(end) for end in ends] == pytest.approx([340, 0])
    for pixel in (20.0, 100.0, 300.0):
        assert axis.pixel(axis.value(pixel)) == pytest.approx(pixel)


def test_what_lies_beyond_an_axis_is_put_at_its_end_whichever_way_it_runs() -> None:
    for ends in ((0.0, 10.0), (10.0, 0.0)):
        axis = Axis(kind="linear", ends=ends, pixels=(0, 100))
        assert [axis.clipped(value) for value in (-5, 4, 50)] == [0, 4, 10]


def test_values_have_a_margin_at_both_ends_and_a_single_one_has_a_range() -> None:
    assert log_axis("", [2.0, 8.0], (0, 100), by=2.0).ends == (1.0, 16.0)
    assert linear_axis("", [2.0, 4.0], (0, 100), by=0.5).ends == (1.0, 5.0)
    low, high = linear_axis("", [3.0, 3.0], (0, 100), by=0.5).ends
    assert low < 3 < high
