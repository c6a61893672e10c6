import gzip
from dataclasses import replace

import pytest

from bench.core.cli.errors import ConfigError
from bench.core.record import Status
from bench.core.statistics import paired_ratio
from bench.studies.gate.rows import GateVerdict
from bench.studies.gate.stored import compare_stored, read_side, side_of_records, stored
from tests.records import block_records, changed, failed_record, kernel_cell, ok_record, speed

RECORDS = block_records(["softmax", "linear"])


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "results"
    (folder / "records").mkdir(parents=True)
    lines = [record.to_json() + "\n" for record in RECORDS]
    (folder / "records" / "one.jsonl").write_text("".join(lines))
    return folder


def read(path):
    return read_side("baseline", path)


def entries(side):
    return [one.cell.entry for one in side.cells]


def test_a_sweeps_folder_its_records_folder_and_one_file_name_the_same_numbers(out):
    whole = read(out)
    assert entries(whole) == ["softmax", "linear"]
    assert read(out / "records").cells == whole.cells
    assert read(out / "records" / "one.jsonl").cells == whole.cells
    packed = out / "records.jsonl.gz"
    packed.write_bytes(gzip.compress((out / "records" / "one.jsonl").read_bytes()))
    assert read(packed).cells == whole.cells


def test_a_broken_line_in_the_middle_is_refused_with_its_number(out):
    file = out / "records" / "one.jsonl"
    file.write_text("{}\n" + file.read_text())
    with pytest.raises(ConfigError, match=r"one.jsonl:1 is left out: "):
        read(file)


ENTRIES = ("softmax", "linear", "nala")


def slowed(record, factor, *also):
    samples = {name: getattr(record.result, name) for name in ("latency_s", *also)}
    return changed(record, **{n: tuple(s * factor for s in own) for n, own in samples.items()})


def compared(before, after):
    base, current = side_of_records(before, "a"), side_of_records(after, "b")
    return compare_stored(base.cells, current.cells, 0.2, 0.01)


def test_two_sweeps_that_differ_by_the_machines_speed_only_are_the_same():
    before = block_records(ENTRIES, seed=0)
    rows = compared(before, [slowed(record, 2, "reference_latency_s") for record in before])
    assert not [row for row in rows if row.verdict is GateVerdict.SLOWER]


def test_one_slow_mechanism_is_found_in_another_sweep_and_named_alone():
    before, after = block_records(ENTRIES, seed=0), block_records(ENTRIES, seed=1)
    after = [slowed(r, 1.4) if r.cell.entry == "nala" else r for r in after]
    slower = [row.entry for row in compared(before, after) if row.verdict is GateVerdict.SLOWER]
    assert slower == ["nala"]


def test_the_newest_record_of_a_cell_counts():
    (_, linear, _) = block_records(ENTRIES)
    old = slowed(replace(linear, started_at="2030-01-01T00:00:00Z"), 9.0)
    assert {row.verdict for row in compared([linear], [linear, old])} == {GateVerdict.SAME}


def test_a_side_says_where_it_is_from_and_of_which_commit():
    records = block_records(ENTRIES)
    one = side_of_records(records, "results")
    assert one.words == "results, commit 000000000000" and one.commit == "0" * 40
    assert one.torch == {"2.13.0"} and one.entries == set(ENTRIES)
    other = replace(records[0], environment=records[0].environment | {"commit": "1" * 40})
    assert side_of_records([*records, other], "results").commit is None
    unknown = [replace(r, environment=r.environment | {"commit": None}) for r in records]
    assert side_of_records(unknown, "results").words == "results"


def test_a_record_becomes_its_ratio_to_softmax_within_rounds():
    linear = RECORDS[1]
    faster = paired_ratio(*linear.result.paired)
    found = stored(linear)
    assert found.time_over_softmax.median == pytest.approx(1 / faster.median)
    assert found.time_over_softmax.low == pytest.approx(1 / faster.high)
    assert found.exact["flops"] == linear.result.flops
    assert found.cell == linear.cell and found.failure is None
    assert not found.is_noisy
    assert stored(replace(linear, result=replace(linear.result, is_noisy=True))).is_noisy


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (RECORDS[0], "the reference itself"),
        (ok_record(kernel_cell("nala"), speed([0.01] * 9, [])), "not timed with it"),
        (ok_record(kernel_cell("nala"), speed([0.01] * 5, [0.02] * 5)), "fewer than 6 rounds"),
        (
            ok_record(kernel_cell("nala"), speed([0.01] * 9, [0.02] * 9, reference="linear")),
            "timed against linear, not against softmax",
        ),
    ],
)
def test_a_record_without_a_ratio_to_softmax_says_why(record, words):
    found = stored(record)
    assert found.time_over_softmax is None and words in found.why_untimed
    assert found.latency_s > 0 and bool(found.exact) == (record is RECORDS[0])


def test_a_failed_record_keeps_its_status_and_reason():
    found = stored(failed_record(kernel_cell("nala"), Status.TIMED_OUT, "no answer for 2 s"))
    assert found.failure == "timed_out: no answer for 2 s" and not found.is_skipped
    assert stored(failed_record(kernel_cell("nala"), Status.SKIPPED, "too large")).is_skipped


def test_a_device_is_compared_by_its_name():
    cell = kernel_cell("linear", device="cuda:0")
    devices = {"cpu": "Imaginary 9000", "cuda:0": "NVIDIA H100"}
    record = replace(RECORDS[1], cell=cell)
    record = replace(record, environment=record.environment | {"devices": devices})
    assert stored(record).circumstances[2] == "NVIDIA H100"
