from dataclasses import replace

import pytest

from bench.core.record import Status
from bench.core.statistics import paired_ratio
from bench.studies.gate.recorded import side_of_records, stored
from bench.studies.gate.stored import compare_stored
from bench.studies.gate.verdict import Verdict
from tests.records import block_records, failed_record, kernel_cell, ok_record, speed, task_records

ENTRIES = ("softmax", "linear", "nala")


def slowed(record, factor):
    result = record.result
    return replace(
        record, result=replace(result, latency_s=tuple(s * factor for s in result.latency_s))
    )


def test_a_record_becomes_its_ratio_to_softmax_within_rounds():
    _, linear, _ = block_records(ENTRIES)
    speed = linear.result
    faster = paired_ratio(
        speed.latency_s, speed.rounds, speed.reference_latency_s, speed.reference_rounds
    )
    found = stored(linear)
    assert found.time.median == pytest.approx(1 / faster.median)
    assert found.time.low == pytest.approx(1 / faster.high)
    assert found.exact["flops"] == speed.flops
    assert found.key == linear.cell.key and found.failure is None


def test_the_reference_has_no_ratio_to_itself():
    found = stored(block_records(ENTRIES)[0])
    assert found.time is None and "the reference itself" in found.why_untimed
    assert found.latency_s > 0 and found.exact


def test_without_softmax_or_with_too_few_rounds_there_is_no_time():
    alone = ok_record(kernel_cell("nala"), speed([0.01] * 9, []))
    assert "not timed with it" in stored(alone).why_untimed
    few = ok_record(kernel_cell("nala"), speed([0.01] * 5, [0.02] * 5))
    assert "fewer than 6 rounds" in stored(few).why_untimed


def test_a_failed_record_keeps_its_status_and_reason():
    found = stored(failed_record(kernel_cell("nala"), Status.TIMED_OUT, "no answer for 2 s"))
    assert found.failure == "timed_out: no answer for 2 s" and not found.is_skipped
    assert stored(failed_record(kernel_cell("nala"), Status.SKIPPED, "too large")).is_skipped
    assert found.time is None and found.exact == {}


def test_a_training_run_is_its_accuracy():
    (record,) = task_records(["nala"], seeds=[0])
    found = stored(record)
    assert found.exact == {"accuracy": record.result.accuracy}
    assert found.channel == "accuracy"


def test_two_sweeps_that_differ_by_the_machines_speed_only_are_the_same():
    before = block_records(ENTRIES, seed=0)
    after = [
        replace(
            record,
            result=replace(
                record.result,
                latency_s=tuple(2 * s for s in record.result.latency_s),
                reference_latency_s=tuple(2 * s for s in record.result.reference_latency_s),
            ),
        )
        for record in before
    ]
    rows = compare_stored(side_of_records(before, "a"), side_of_records(after, "b"), 0.2, 0.01)
    assert not [row for row in rows if row.verdict is Verdict.SLOWER]


def test_one_slow_mechanism_is_found_in_another_sweep_and_named_alone():
    before, after = block_records(ENTRIES, seed=0), block_records(ENTRIES, seed=1)
    after = [slowed(r, 1.4) if r.cell.entry == "nala" else r for r in after]
    rows = compare_stored(side_of_records(before, "a"), side_of_records(after, "b"), 0.2, 0.01)
    assert [row.entry for row in rows if row.verdict is Verdict.SLOWER] == ["nala"]


def test_the_newest_record_of_a_cell_counts():
    (_, linear, _) = block_records(ENTRIES)
    old = slowed(replace(linear, started_at="2030-01-01T00:00:00Z"), 9.0)
    rows = compare_stored(
        side_of_records([linear], "a"), side_of_records([linear, old], "b"), 0.2, 0.01
    )
    assert {row.verdict for row in rows} == {Verdict.SAME}


def test_a_side_says_where_it_is_from_and_of_which_commit():
    records = block_records(ENTRIES)
    one = side_of_records(records, "results")
    assert one.words == "results, commit 000000000000" and one.commit == "0" * 40
    assert one.torch == {"2.13.0"}
    other = replace(records[0], environment=records[0].environment | {"commit": "1" * 40})
    assert side_of_records([*records, other], "results").commit is None
    unknown = [replace(r, environment=r.environment | {"commit": None}) for r in records]
    assert side_of_records(unknown, "results").words == "results"
