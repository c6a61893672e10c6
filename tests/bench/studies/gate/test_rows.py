import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.studies.gate import rows
from bench.studies.gate.rows import (
    FAMILY_ERROR,
    GateVerdict,
    Interval,
    by_channel,
    confidence_tail,
    exact_rows,
    exit_code,
    judge,
    ratio_interval,
)
from tests.bench.studies.gate.fakes import OBSERVED, row
from tests.records import kernel_cell, task_cell


def forks(seed, *, effect=1.0, between=0.005, within=0.01, num_forks=6, rounds=20):
    """Ratios as they come: a fork is born with an offset that all of its rounds share."""
    draw = np.random.default_rng(seed)
    offsets = effect * np.exp(between * draw.standard_normal((num_forks, 1)))
    return (offsets * np.exp(within * draw.standard_normal((num_forks, rounds)))).tolist()


def test_nothing_changed_is_same_and_never_slower():
    tail = confidence_tail(1)
    verdicts = [judge(ratio_interval(forks(seed), tail), 0.03) for seed in range(30)]
    assert GateVerdict.SLOWER not in verdicts and GateVerdict.FASTER not in verdicts
    assert verdicts.count(GateVerdict.SAME) >= 28


def test_five_per_cent_are_found_at_a_threshold_of_three():
    tail = confidence_tail(1)
    found = [judge(ratio_interval(forks(s, effect=1.05), tail), 0.03) for s in range(30)]
    assert found.count(GateVerdict.SLOWER) >= 27
    faster = judge(ratio_interval(forks(0, effect=0.9), tail), 0.03)
    assert faster is GateVerdict.FASTER


def test_one_slow_cell_among_a_hundred_is_found():
    tail = confidence_tail(100)
    cells = [forks(seed, effect=1.1 if seed == 4 else 1.0, rounds=8) for seed in range(10)]
    verdicts = [judge(ratio_interval(cell, tail), 0.03) for cell in cells]
    assert [i for i, v in enumerate(verdicts) if v is GateVerdict.SLOWER] == [4]


def test_all_cells_of_a_comparison_share_one_chance_of_a_false_alarm():
    assert confidence_tail(1) == FAMILY_ERROR == 0.01
    assert confidence_tail(200) == pytest.approx(0.01 / 200)
    assert confidence_tail(5, 0.05) == pytest.approx(0.01)


def test_one_odd_fork_decides_nothing():
    odd = forks(1)
    odd[0] = [ratio * 1.3 for ratio in odd[0]]
    assert judge(ratio_interval(odd, confidence_tail(1)), 0.03) is not GateVerdict.SLOWER


def test_rounds_of_one_fork_are_not_taken_for_independent():
    offset = forks(3, between=0.05, within=0.001, num_forks=4, rounds=50)
    wide = ratio_interval(offset, 0.025)
    pooled = [[ratio] for fork in offset for ratio in fork]
    assert wide.high - wide.low > 3 * (
        ratio_interval(pooled, 0.025).high - ratio_interval(pooled, 0.025).low
    )


@pytest.mark.parametrize(
    "table",
    [
        [[0.9] * 9, [1.0] * 9, [1.1] * 9],  # three forks, each of one mind
        [[0.9, 1.0, 1.1]],  # one fork, whose rounds differ
    ],
)
def test_forks_and_their_rounds_are_both_drawn(table):
    found = ratio_interval(table, 0.025)
    assert (found.low, found.median, found.high) == (0.9, 1.0, 1.1)
    # The median of three draws is the least one in 7 of 27 resamples.
    found = ratio_interval(table, 0.22)
    assert (found.low, found.high) == (0.9, 1.1)
    found = ratio_interval(table, 0.30)
    assert (found.low, found.high) == (1.0, 1.0)


def test_the_end_of_a_small_tail_does_not_hang_on_whether_it_was_drawn_at_all(monkeypatch):
    # The least of 11 forks is the median of their draws about once in 6,000 resamples.
    cell = [[1 + number / 100] for number in range(11)]
    for seed in range(5):
        monkeypatch.setattr(rows, "BOOTSTRAP_SEED", seed)
        assert ratio_interval(cell, 5e-5).low == 1.0


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.floats(0.5, 2.0))
def test_the_interval_holds_the_median_and_scales_with_the_ratios(seed, factor):
    cell = forks(seed, rounds=5)
    one = ratio_interval(cell, 0.01)
    assert one.low <= one.median <= one.high
    scaled = ratio_interval([[r * factor for r in fork] for fork in cell], 0.01)
    assert scaled.median == pytest.approx(one.median * factor)
    assert scaled.low == pytest.approx(one.low * factor)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (1.031, 1.2, GateVerdict.SLOWER),
        (1.029, 1.2, GateVerdict.UNSURE),
        (1.03, 1.2, GateVerdict.UNSURE),
        (0.98, 1.02, GateVerdict.SAME),
        (1.0, 1.03, GateVerdict.SAME),
        (0.98, 1.05, GateVerdict.UNSURE),
        (0.9705, 1.02, GateVerdict.UNSURE),  # 1 / 1.03 is 0.97087
        (0.8, 0.9705, GateVerdict.FASTER),
        (0.8, 0.98, GateVerdict.UNSURE),
    ],
)
def test_a_verdict_needs_the_whole_interval(low, high, verdict):
    assert judge(Interval(median=(low + high) / 2, low=low, high=high), 0.03) is verdict


def test_a_row_is_written_with_every_name_that_readers_rely_on():
    written = row().to_dict()
    promised = {"entry", "mechanism", "cell", "channel", "verdict", "ratio", "low", "high"}
    assert promised <= written.keys()
    assert json.loads(json.dumps(written)) == written
    assert written["verdict"] == "SAME"


@pytest.mark.parametrize("verdict", GateVerdict)
def test_one_failure_among_a_hundred_is_enough_and_nothing_else_fails(verdict):
    is_failure = verdict in (GateVerdict.SLOWER, GateVerdict.MORE, GateVerdict.BROKEN)
    assert exit_code([*(row() for _ in range(99)), row(verdict)]) == is_failure


CELL = kernel_cell("nala")


@pytest.mark.parametrize("channel", OBSERVED)
def test_one_more_of_anything_fails_and_names_the_cell(channel):
    rows = exact_rows(CELL, OBSERVED, OBSERVED | {channel: OBSERVED[channel] + 1})
    failed = [row for row in rows if row.verdict is GateVerdict.MORE]
    assert [(row.channel, row.cell) for row in failed] == [(channel, CELL.describe())]
    assert (failed[0].base, failed[0].current) == (OBSERVED[channel], OBSERVED[channel] + 1)
    assert exit_code(rows) == 1


def test_less_is_no_failure_except_of_accuracy():
    (less,) = exact_rows(CELL, {"flops": 1000}, {"flops": 999})
    assert less.verdict is GateVerdict.LESS and less.ratio == 0.999
    lower = exact_rows(task_cell("nala"), {"accuracy": 0.9}, {"accuracy": 0.8999})
    assert [row.verdict for row in lower] == [GateVerdict.MORE]


def test_growth_from_nothing_has_no_ratio_and_fails_all_the_same():
    (row,) = (
        r
        for r in exact_rows(CELL, OBSERVED, OBSERVED | {"saved_for_backward_bytes": 64})
        if r.channel == "saved_for_backward_bytes"
    )
    assert row.ratio is None and row.verdict is GateVerdict.MORE


def test_a_number_that_one_side_lacks_is_said_and_not_passed_over():
    without = {k: v for k, v in OBSERVED.items() if k != "flops"}
    (row,) = (r for r in exact_rows(CELL, OBSERVED, without) if r.channel == "flops")
    assert row.verdict is GateVerdict.INCOMPARABLE and "current side" in row.reason
    (row,) = (r for r in exact_rows(CELL, without, OBSERVED) if r.channel == "flops")
    assert "base" in row.reason


def test_a_score_in_a_unit_is_a_loss_of_which_more_is_worse():
    def bits(value):
        return by_channel({"accuracy": value, "unit": "bits per byte"})

    assert bits(2.5) == {"loss": 2.5}
    (better,) = exact_rows(task_cell("nala", "bytes"), bits(2.5), bits(2.49))
    (worse,) = exact_rows(task_cell("nala", "bytes"), bits(2.5), bits(2.9))
    assert (better.channel, better.verdict) == ("loss", GateVerdict.LESS)
    assert (worse.channel, worse.verdict) == ("loss", GateVerdict.MORE)


def test_a_share_of_right_answers_keeps_its_channel():
    assert by_channel({"accuracy": 0.9, "unit": ""}) == {"accuracy": 0.9}
    assert by_channel({"flops": 3, "num_operators": None}) == {"flops": 3}
