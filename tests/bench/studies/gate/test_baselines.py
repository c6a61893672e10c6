import json
from dataclasses import replace

import pytest

from bench.core.cli.errors import ConfigError
from bench.core.record import METHOD_VERSION, Status
from bench.core.statistics import paired_ratio
from bench.studies.gate.baselines import (
    Machine,
    append_baseline,
    baselines_of,
    is_baseline_line,
    read_baselines,
    stored,
)
from bench.studies.gate.sources import read_side
from bench.studies.gate.stored import compare_stored
from bench.studies.gate.verdict import GateVerdict
from tests.records import (
    block_records,
    failed_record,
    kernel_cell,
    ok_record,
    speed,
    task_records,
)

RECORDS = [*block_records(["softmax", "linear"]), *task_records(["linear"], seeds=[0])]


@pytest.fixture
def baseline():
    (found,) = baselines_of(RECORDS)
    return found


def test_a_baseline_says_what_was_measured_and_with_what(baseline):
    assert baseline.commit == "0" * 40 and baseline.date == "2031-05-06T07:08:09Z"
    assert baseline.method_version == METHOD_VERSION and baseline.versions["torch"] == "2.13.0"
    assert baseline.machine.slug == "imaginary-9000-2-cores-cpu-retain"
    assert [one.cell.entry for one in baseline.cells] == ["softmax", "linear", "linear"]


def test_the_date_of_a_baseline_is_that_of_its_last_record():
    days = [f"2031-05-0{day}T00:00:00Z" for day in (1, 3, 2)]
    records = [replace(one, started_at=day) for one, day in zip(RECORDS, days, strict=True)]
    assert [one.date for one in baselines_of(records)] == [days[1]]


def test_records_of_another_method_or_commit_are_another_baseline():
    older = replace(RECORDS[0], method_version=1)
    other = replace(RECORDS[1], environment=RECORDS[1].environment | {"commit": "1" * 40})
    found = [(one.method_version, one.commit) for one in baselines_of([older, *RECORDS, other])]
    here = (METHOD_VERSION, "0" * 40)
    assert found == [(1, "0" * 40), here, (METHOD_VERSION, "1" * 40)]


def test_a_line_holds_no_samples_and_comes_back_as_it_was(baseline, tmp_path):
    file = append_baseline(baseline, tmp_path)
    (line,) = file.read_text().splitlines()
    assert is_baseline_line(line)
    assert len(line) < sum(len(record.to_json()) for record in RECORDS)
    assert read_baselines(file) == (baseline,)


def test_a_failed_cell_is_kept_with_its_reason(tmp_path):
    failed = failed_record(kernel_cell("nala"), Status.CRASHED, "SIGSEGV")
    (baseline,) = read_baselines(append_baseline(*baselines_of([failed]), tmp_path))
    assert baseline.cells[0].failure == "crashed: SIGSEGV"


def test_baselines_are_compared_with_records_and_with_each_other(baseline, tmp_path):
    rows = compare_stored([baseline], baselines_of(RECORDS), 0.2, 0.01)
    assert {row.verdict for row in rows} == {GateVerdict.SAME, GateVerdict.INCOMPARABLE}
    one = read_side("baseline", append_baseline(baseline, tmp_path))
    assert ".jsonl, commit 000000000000 of 2031-05-06" in one.words


def test_each_line_is_added_to_the_file_of_its_machine_and_read_in_the_order_of_dates(
    baseline, tmp_path
):
    later = replace(baseline, date="2031-06-01T00:00:00Z", commit="1" * 40)
    other = replace(baseline, machine=replace(baseline.machine, num_cores=64))
    files = [append_baseline(one, tmp_path) for one in (later, baseline, other)]
    assert files[0] == files[1] != files[2]
    assert files[0].parent == tmp_path / "baselines"
    assert read_baselines(files[0]) == (baseline, later)
    assert read_baselines(files[2]) == (other,)


def test_a_device_has_a_baseline_of_its_own():
    cells = [kernel_cell("linear"), kernel_cell("linear", device="cuda:0")]
    devices = {"cpu": "Imaginary 9000", "cuda:0": "NVIDIA H100"}
    record = RECORDS[1]
    environment = record.environment | {"devices": devices}
    records = [replace(record, cell=cell, environment=environment) for cell in cells]
    slugs = [baseline.machine.slug for baseline in baselines_of(records)]
    assert slugs == [
        "imaginary-9000-2-cores-cpu-retain",
        "imaginary-9000-2-cores-nvidia-h100-retain",
    ]


def test_a_machine_class_is_a_plain_file_name():
    machine = Machine(
        processor="Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz",
        num_cores=8,
        device="Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz",
        allocator="default",
    )
    assert machine.slug == "intel-xeon-platinum-8375c-cpu-2-90ghz-8-cores-cpu-default"


@pytest.mark.parametrize(
    "line",
    ["{}", "[]", "null", "not json", '{"baseline_version": 1}', '{"baseline_version": 99}'],
)
def test_what_is_no_baseline_is_refused_with_its_line(baseline, tmp_path, line):
    file = append_baseline(baseline, tmp_path)
    file.write_text(file.read_text() + line + "\n")
    with pytest.raises(ConfigError, match=":2 is no Baseline"):
        read_baselines(file)
    before = file.read_text()
    with pytest.raises(ConfigError):
        append_baseline(baseline, tmp_path)
    assert file.read_text() == before


OLDER = (
    '{"baseline_version":1,"commit":"' + "a" * 40 + '","date":"2030-01-02T03:04:05Z",'
    '"method_version":3,"machine":{"processor":"Imaginary 9000","num_cores":2,'
    '"device":"Imaginary 9000","allocator":"retain"},"versions":{"torch":"2.13.0"},'
    '"cells":[{"cell":{"entry":"nala","mechanism":"nala","hyperparameters":{},"device":"cpu",'
    '"num_threads":1,"plugins":[],"kind":"kernel","seq_len":64,"batch_size":1,"num_heads":4,'
    '"head_dim":64,"dtype":"float32","mode":"forward","causal":false,"scope":"core"},'
    '"time_over_softmax":[0.5,0.4,0.6],"why_untimed":null,"latency_s":0.01,'
    '"exact":{"flops":1000,"num_operators":7},"failure":null,"is_skipped":false,'
    '"is_noisy":false}]}\n'
)


def test_a_line_of_an_earlier_version_is_read_and_stays_as_it_is(baseline, tmp_path):
    file = tmp_path / "baselines" / f"{baseline.machine.slug}.jsonl"
    file.parent.mkdir()
    file.write_text(OLDER)
    (older,) = read_baselines(file)
    assert older.cells[0].time_over_softmax == (0.5, 0.4, 0.6)
    assert older.cells[0].cell == kernel_cell("nala", seq_len=64)
    assert append_baseline(baseline, tmp_path) == file
    assert file.read_text().startswith(OLDER) and read_baselines(file) == (older, baseline)


def test_a_file_that_is_named_by_a_link_is_read(baseline, tmp_path):
    (tmp_path / "link.jsonl").symlink_to(append_baseline(baseline, tmp_path))
    assert read_baselines(tmp_path / "link.jsonl") == (baseline,)


def test_a_record_becomes_its_ratio_to_softmax_within_rounds():
    linear = RECORDS[1]
    speed = linear.result
    faster = paired_ratio(
        speed.latency_s, speed.rounds, speed.reference_latency_s, speed.reference_rounds
    )
    found = stored(linear)
    assert found.time_over_softmax.median == pytest.approx(1 / faster.median)
    assert found.time_over_softmax.low == pytest.approx(1 / faster.high)
    assert found.exact["flops"] == speed.flops
    assert found.cell == linear.cell and found.failure is None
    assert not found.is_noisy
    assert stored(replace(linear, result=replace(speed, is_noisy=True))).is_noisy


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
    assert found.time_over_softmax is None and found.exact == {}


def test_a_training_run_is_its_accuracy_or_with_a_unit_its_loss():
    record = RECORDS[-1]
    assert stored(record).exact == {"accuracy": record.result.accuracy}
    found = stored(replace(record, result=replace(record.result, unit="bits per byte")))
    assert found.exact == {"loss": record.result.accuracy}


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("date",), "\x1b[2J"),
        (("commit",), 5),
        (("method_version",), 0),
        (("machine", "num_cores"), -1),
        (("versions", "torch"), [2]),
        (("cells", 0, "exact"), None),
        (("cells", 1, "time_over_softmax"), [0.0, 0.0, 0.0]),
        (("cells", 1, "time_over_softmax"), [1.0, -1.0, 1.0]),
        (("cells", 1, "time_over_softmax", 2), 1e300),
        (("cells", 1, "latency_s"), 1e300),
        (("cells", 1, "exact", "flops"), -1),
        (("cells", 1, "exact", "accuracy"), "much"),
    ],
)
def test_a_field_that_is_missing_or_could_not_be_computed_with_is_refused_with_its_line(
    baseline, tmp_path, place, value
):
    file = append_baseline(baseline, tmp_path)
    line = json.loads(file.read_text())
    *way, last = place
    inner = line
    for name in way:
        inner = inner[name]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    file.write_text(json.dumps(line) + "\n")
    with pytest.raises(ConfigError, match=rf"\.jsonl:1 is no Baseline: .*{place[-1]}"):
        read_baselines(file)
