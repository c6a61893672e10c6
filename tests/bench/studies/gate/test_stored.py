import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.core.cli.errors import ConfigError
from bench.studies.gate.rows import GateVerdict, Interval, exit_code
from bench.studies.gate.stored import compare_stored, quotient, work_of
from tests.bench.studies.gate.fakes import HERE, OBSERVED, failing, stored
from tests.records import kernel_cell

THRESHOLD, FAMILY = 0.2, 0.01
TWO_THREADS = stored(
    cell=kernel_cell("nala", seq_len=64, num_threads=2), circumstances=(*HERE[:4], 2)
)


def compared(base, current):
    return compare_stored(base, current, THRESHOLD, FAMILY)


def times(rows):
    return {row.entry: row.verdict for row in rows if row.channel == "latency"}


def test_two_equal_sides_are_the_same_in_every_channel():
    cells = [stored("nala"), stored("linear", 0.3)]
    rows = compared(cells, cells)
    assert {row.verdict for row in rows} == {GateVerdict.SAME}
    assert {row.channel for row in rows} == {*OBSERVED, "latency"}


@pytest.mark.parametrize(
    ("factor", "half", "verdict"),
    [
        (1.3, 0.01, GateVerdict.SLOWER),
        (1.15, 0.01, GateVerdict.SAME),
        (1.3, 0.10, GateVerdict.UNSURE),
        (0.7, 0.01, GateVerdict.FASTER),
    ],
)
def test_a_ratio_to_softmax_has_to_move_beyond_threshold_and_interval(factor, half, verdict):
    rows = compared([stored(half=half)], [stored(median=0.5 * factor, half=half)])
    (row,) = (row for row in rows if row.channel == "latency")
    assert row.verdict is verdict
    assert row.ratio == pytest.approx(factor)
    assert row.low < row.ratio < row.high


def test_a_growth_of_a_stored_number_without_noise_fails():
    grown = stored(exact=OBSERVED | {"peak_memory_bytes": 4097})
    rows = compared([stored()], [grown])
    assert [row.channel for row in rows if row.verdict is GateVerdict.MORE] == ["peak_memory_bytes"]
    assert exit_code(rows) == 1


def test_cells_of_one_side_are_listed_as_new_or_gone_and_do_not_fail():
    rows = compared([stored("nala"), stored("linear")], [stored("nala"), stored("dpfp")])
    assert times(rows) == {
        "nala": GateVerdict.SAME,
        "dpfp": GateVerdict.NEW,
        "linear": GateVerdict.GONE,
    }
    assert exit_code(rows) == 0


def test_what_ran_in_the_base_and_fails_now_is_broken():
    broken = failing("crashed: SIGSEGV")
    (row,) = compared([stored()], [broken])
    assert row.verdict is GateVerdict.BROKEN and "SIGSEGV" in row.reason
    (row,) = compared([broken], [stored()])
    assert row.verdict is GateVerdict.INCOMPARABLE
    (row,) = compared([broken], [broken])
    assert row.verdict is GateVerdict.INCOMPARABLE


def test_what_was_not_tried_now_is_gone_with_its_reason_and_no_failure():
    skipped = failing("skipped: needs 9 GiB", is_skipped=True)
    rows = compared([stored()], [skipped])
    assert [row.verdict for row in rows] == [GateVerdict.GONE] and "9 GiB" in rows[0].reason
    assert exit_code(rows) == 0


def test_a_cell_without_a_time_says_why_and_its_other_numbers_are_compared():
    yardstick = stored("softmax", time_over_softmax=None, why_untimed="it is the reference itself")
    rows = compared([yardstick], [replace(yardstick, exact=OBSERVED | {"flops": 1001})])
    by_channel = {row.channel: row for row in rows}
    assert by_channel["latency"].verdict is GateVerdict.INCOMPARABLE
    assert by_channel["latency"].reason == "it is the reference itself"
    assert by_channel["flops"].verdict is GateVerdict.MORE


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (0, 2, "METHOD_VERSION is 1 in the base and 2 now"),
        (1, "Other", "processor is Imaginary 9000 in the base and Other now"),
        (2, "H100", "device is Imaginary 9000 in the base and H100 now"),
        (3, "default", "allocator is retain in the base and default now"),
        (4, 2, "num_threads is 1 in the base and 2 now"),
        (1, None, "not said now"),
    ],
)
def test_numbers_made_under_other_circumstances_are_refused_with_a_sentence(place, value, words):
    elsewhere = (*HERE[:place], value, *HERE[place + 1 :])
    with pytest.raises(ConfigError) as caught:
        compared([stored(), stored("linear")], [stored(circumstances=elsewhere), stored("linear")])
    assert words in str(caught.value) and "nala seq_len=64" in str(caught.value)


def test_a_side_of_two_thread_counts_is_compared_where_the_other_has_the_same():
    rows = compared([stored(), TWO_THREADS], [stored()])
    assert [r.verdict for r in rows if r.channel == "latency"] == [
        GateVerdict.SAME,
        GateVerdict.GONE,
    ]


def test_sides_without_a_common_cell_are_refused():
    with pytest.raises(ConfigError, match="no cell in common"):
        compared([stored("nala")], [stored("linear")])


def test_the_same_work_is_known_on_another_device_and_with_other_threads():
    one = kernel_cell("nala")
    assert work_of(one) == work_of(replace(one, num_threads=2, device="cuda:0", entry="x"))
    assert work_of(one) != work_of(kernel_cell("nala", seq_len=512))


POSITIVE = st.floats(0.01, 100)


@settings(max_examples=50, deadline=None)
@given(POSITIVE, POSITIVE, st.floats(0, 0.5), st.floats(0, 0.5), st.floats(1e-6, 0.4))
def test_a_quotient_lies_in_its_interval_and_turns_over_with_its_sides(a, b, wide, narrow, tail):
    base = Interval(median=a, low=a / (1 + wide), high=a * (1 + narrow))
    current = Interval(median=b, low=b / (1 + narrow), high=b * (1 + wide))
    one = quotient(base, current, tail)
    assert one.low <= one.median * (1 + 1e-12) and one.median <= one.high * (1 + 1e-12)
    other = quotient(current, base, tail)
    assert other.median == pytest.approx(1 / one.median)
    assert other.low == pytest.approx(1 / one.high) and other.high == pytest.approx(1 / one.low)


def test_without_noise_on_one_side_the_interval_is_that_of_the_other():
    exact = Interval(median=2.0, low=2.0, high=2.0)
    noisy = Interval(median=3.0, low=2.7, high=3.3)
    found = quotient(exact, noisy, 0.025)
    assert (found.low, found.high) == (pytest.approx(1.35), pytest.approx(1.65))


def test_a_cell_that_was_timed_widens_the_intervals_of_all_and_one_without_a_time_none():
    def low(**about):
        others = (kernel_cell("linear", seq_len=length) for length in (32, 64, 128))
        cells = [stored(half=0.05), *(stored(cell=one, **about) for one in others if about)]
        (row,) = (r for r in compared(cells, cells) if (r.entry, r.channel) == ("nala", "latency"))
        return row.low

    assert low(half=0.05) < low() == low(time_over_softmax=None, why_untimed="no reference")


def test_more_cells_make_every_interval_wider():
    noisy = Interval(median=1.0, low=0.95, high=1.05)
    widths = [
        math.log(q.high / q.low) for q in (quotient(noisy, noisy, t) for t in (0.025, 0.01, 1e-4))
    ]
    assert widths == sorted(widths)
