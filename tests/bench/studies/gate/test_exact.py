import pytest

from bench.studies.gate.exact import HIGHER_IS_WORSE, by_channel, exact_rows
from bench.studies.gate.rows import exit_code
from bench.studies.gate.verdict import GateVerdict
from tests.bench.studies.gate.fakes import OBSERVED
from tests.records import kernel_cell, task_cell

CELL = kernel_cell("nala")


def verdicts(base, current):
    return {row.channel: row.verdict for row in exact_rows(CELL, base, current)}


@pytest.mark.parametrize("channel", OBSERVED)
def test_one_more_of_anything_fails_and_names_the_cell(channel):
    rows = exact_rows(CELL, OBSERVED, OBSERVED | {channel: OBSERVED[channel] + 1})
    failed = [row for row in rows if row.verdict is GateVerdict.MORE]
    assert [(row.channel, row.cell) for row in failed] == [(channel, CELL.describe())]
    assert (failed[0].base, failed[0].current) == (OBSERVED[channel], OBSERVED[channel] + 1)
    assert exit_code(rows) == 1


def test_less_is_no_failure_except_of_accuracy():
    assert verdicts(OBSERVED, OBSERVED | {"flops": 999})["flops"] is GateVerdict.LESS
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


def test_what_neither_side_has_gives_no_row():
    assert "accuracy" in HIGHER_IS_WORSE
    assert "accuracy" not in verdicts(OBSERVED, OBSERVED)


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


def test_a_growth_that_no_number_can_hold_has_no_ratio_and_fails_all_the_same():
    (row,) = exact_rows(task_cell("nala"), {"loss": 5e-324}, {"loss": 1.0})
    assert (row.verdict, row.ratio, row.low) == (GateVerdict.MORE, None, None)
