"""What follows from written samples."""

from __future__ import annotations

import pytest

from bench.mechanisms.findings import failures_of, rows_of
from bench.mechanisms.units import FORMS
from tests.bench.mechanisms.runs import line, measured, pair_lines, place, saved_line, threads_line


def test_a_row_is_the_ratio_within_rounds() -> None:
    (row,) = rows_of(measured(*pair_lines(place(), nala=0.5, official=2.0, softmax=1.0)))
    assert (row.entry, row.against, row.place) == ("nala", "official", place())
    assert row.ratio.median == row.ratio.low == row.ratio.high == pytest.approx(0.25)
    assert row.softmax_ratio is not None
    assert row.softmax_ratio.median == pytest.approx(0.5)
    assert row.latency_s == pytest.approx(0.5)
    assert row.floor_fraction is None
    assert not row.is_slower


def test_slower_is_what_is_so_by_the_whole_interval() -> None:
    steady = line(FORMS, {"nala": 1.1, "nala official": 1.0}, place())
    (row,) = rows_of(measured(steady))
    assert row.is_slower
    wild = [[1.1, 1.0], [0.9, 1.0], [1.2, 1.0], [0.8, 1.0], [1.3, 1.0], [1.1, 1.0]]
    (row,) = rows_of(measured(steady | {"rounds": wild, "processes": [0] * 6}))
    assert row.ratio.median > 1
    assert not row.is_slower
    (row,) = rows_of(measured(steady | {"rounds": wild[:2], "processes": [0] * 2}))
    assert row.ratio.low is None
    assert not row.is_slower, "too few rounds for a verdict"


def test_rounds_of_several_processes_are_one_ratio_each() -> None:
    """Many rounds of one process say no more about another than a few do."""
    ours = [0.8, 0.9, 0.7, 1.1, 1.2, 1.3]  # of each process; within one all rounds agree
    rounds = [[seconds, 1.0] for seconds in ours for _ in range(30)]
    numbers = [number for number in range(6) for _ in range(30)]
    unit = line(FORMS, {"nala": 1.0, "nala official": 1.0}, place(), rounds=rounds)
    (row,) = rows_of(measured(unit | {"processes": numbers}))
    assert row.ratio.num_rounds == 6
    assert (row.ratio.low, row.ratio.high) == (pytest.approx(0.7), pytest.approx(1.3))
    assert row.ratio.median == pytest.approx(1.0)
    assert row.latency_s == pytest.approx(1.0)


@pytest.mark.parametrize(("second", "is_slower"), [(1.2, True), (0.99, False)])
def test_slower_is_what_is_found_so_twice(second: float, is_slower: bool) -> None:
    ours = [1.1] * 6 + [1.3] * 5 + [second]  # of each process
    unit = line(
        FORMS,
        {"nala": 1.0, "nala official": 1.0},
        place(),
        rounds=[[seconds, 1.0] for seconds in ours],
        processes=list(range(12)),
        confirmed_from=6,
    )
    (row,) = rows_of(measured(unit))
    assert row.is_slower is is_slower
    assert row.ratio.num_rounds == 12 and row.ratio.median == pytest.approx(1.15, abs=0.06)


def test_without_its_rounds_a_unit_has_no_row_but_a_failure() -> None:
    failed = line(FORMS, {"nala": 1.0, "nala official": 1.0}, place(), reason="crashed: it broke")
    assert rows_of(measured(failed)) == ()
    (words,) = failures_of(measured(failed))
    assert "nala, nala official" in words
    assert "it broke" in words


def test_softmax_of_another_place_is_not_compared_with() -> None:
    ours, _ = pair_lines(place(), nala=0.5, official=2.0, softmax=1.0)
    _, elsewhere = pair_lines(place(allocator="default"), nala=0.5, official=2.0, softmax=1.0)
    (row,) = rows_of(measured(ours, elsewhere))
    assert row.softmax_ratio is None


def test_bytes_kept_for_backward_are_per_token_and_of_the_backward_rows() -> None:
    forward = place()
    backward = place(mode="forward_backward", num_threads=2)
    data = measured(
        *pair_lines(forward, 0.5, 2.0, 1.0),
        *pair_lines(backward, 0.5, 2.0, 1.0),
        saved_line(place(mode="forward_backward"), num_bytes=2560),
    )
    assert [row.saved_bytes_per_token for row in rows_of(data)] == [None, 10.0]


def test_a_calibrated_machine_has_a_floor_of_products_and_of_one_pass_after_them() -> None:
    ceiling = {
        "device": "cpu",
        "device_name": "Imaginary 9000",
        "dtype": "float32",
        "num_threads": 1,
        "flops_per_s": 1e5,
        "bytes_per_s": [[2**40, 1e6]],
    }
    lines = pair_lines(place(), nala=0.5, official=2.0, softmax=1.0)
    (row,) = rows_of(measured(*lines, calibration={"ceilings": [ceiling]}))
    num_bytes = 4 * (4 * 256 * 64 * 4)  # q, k, v and the output
    of_products_s, of_one_pass_s = 10_000 / 1e5, num_bytes / 1e6
    assert row.floor_fraction == pytest.approx((of_products_s + of_one_pass_s) / 0.5)


def test_two_threads_are_a_row_of_their_own_over_one() -> None:
    at = place(num_threads=2)
    lines = [*pair_lines(at, nala=0.5, official=2.0, softmax=1.0), threads_line(at, 1.5, 1.0)]
    form, threads = rows_of(measured(*lines))
    assert (form.against, form.is_of_threads, form.is_slower) == ("official", False, False)
    assert (threads.entry, threads.against, threads.place) == ("nala", "1 thread", at)
    assert threads.ratio.median == pytest.approx(1.5)
    assert threads.latency_s == pytest.approx(1.5)
    assert threads.is_of_threads and threads.is_slower
    assert threads.softmax_ratio is None, "that is said by the row of the forms"
