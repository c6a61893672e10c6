"""Where an entry begins to be faster than softmax."""

from __future__ import annotations

import pytest

from bench.mechanisms.crossovers import crossing, crossovers_of
from bench.mechanisms.findings import rows_of
from tests.bench.mechanisms.runs import measured, pair_lines, place


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ([(100, 4.0), (10_000, 0.25)], 1000.0),
        ([(100, 2.0), (200, 1.0)], 200.0),
        ([(100, 0.9), (200, 0.5)], 100.0),
        ([(100, 3.0), (200, 2.0)], None),
        ([], None),
    ],
)
def test_a_crossing_lies_on_straight_lines_between_logarithms(
    ratios: list[tuple[int, float]], expected: float | None
) -> None:
    found = crossing(ratios)
    assert found == (None if expected is None else pytest.approx(expected))


def test_crossovers_are_found_for_both_forms_and_forward_only() -> None:
    data = measured(
        *pair_lines(place(seq_len=4096), 0.1, 0.5, 1.0),
        *pair_lines(place(), 1.0, 8.0, 1.0),
        *pair_lines(place(seq_len=1024), 0.5, 2.0, 1.0),
        *pair_lines(place(seq_len=4096, mode="forward_backward"), 9.0, 9.0, 1.0),
    )
    (found,) = crossovers_of(rows_of(data))
    assert found.ours == 256
    assert found.other == pytest.approx(2048)
