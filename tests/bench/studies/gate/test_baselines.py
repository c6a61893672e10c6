import json
from dataclasses import replace

import pytest

from bench.core.cli.errors import ConfigError
from bench.core.record import METHOD_VERSION, Status
from bench.studies.gate.baselines import (
    Baseline,
    Machine,
    append_baseline,
    baselines_of,
    is_baseline_line,
    read_baselines,
    side_of_baseline,
)
from bench.studies.gate.recorded import side_of_records
from bench.studies.gate.stored import compare_stored
from bench.studies.gate.verdict import Verdict
from tests.records import block_records, failed_record, kernel_cell, task_records

RECORDS = [*block_records(["softmax", "linear"]), *task_records(["linear"], seeds=[0])]


@pytest.fixture
def baseline():
    (found,) = baselines_of(RECORDS)
    return found


def test_a_baseline_says_what_was_measured_and_with_what(baseline):
    assert baseline.commit == "0" * 40 and baseline.date == "2031-05-06T07:08:09Z"
    assert baseline.method_version == METHOD_VERSION and baseline.versions["torch"] == "2.13.0"
    assert baseline.machine.slug == "imaginary-9000-2-cores-cpu-retain"
    assert [cell.entry for cell, _ in baseline.cells] == ["softmax", "linear", "linear"]


def test_a_line_holds_no_samples_and_comes_back_as_it_was(baseline):
    line = baseline.to_json()
    assert "\n" not in line and is_baseline_line(line)
    assert len(line) < sum(len(record.to_json()) for record in RECORDS)
    assert Baseline.from_json(line) == baseline


def test_a_failed_cell_is_kept_with_its_reason():
    failed = failed_record(kernel_cell("nala"), Status.CRASHED, "SIGSEGV")
    (baseline,) = baselines_of([failed])
    ((_, numbers),) = Baseline.from_json(baseline.to_json()).cells
    assert numbers.failure == "crashed: SIGSEGV"


def test_baselines_are_compared_with_records_and_with_each_other(baseline, tmp_path):
    one = side_of_baseline(baseline, tmp_path / "x.jsonl")
    rows = compare_stored(one, side_of_records(RECORDS, "results"), 0.2, 0.01)
    assert {row.verdict for row in rows} == {Verdict.SAME, Verdict.INCOMPARABLE}
    assert "x.jsonl, commit 000000000000 of 2031-05-06" in one.words


def test_each_line_is_added_to_the_file_of_its_machine(baseline, tmp_path):
    later = replace(baseline, date="2031-06-01T00:00:00Z", commit="1" * 40)
    other = replace(baseline, machine=replace(baseline.machine, num_cores=64))
    files = [append_baseline(one, tmp_path) for one in (baseline, later, other)]
    assert files[0] == files[1] != files[2]
    assert files[0].parent == tmp_path / "baselines"
    assert read_baselines(files[0]) == (baseline, later)
    assert read_baselines(files[2]) == (other,)


def test_lines_are_read_in_the_order_of_their_dates(baseline, tmp_path):
    later = replace(baseline, date="2031-06-01T00:00:00Z")
    append_baseline(later, tmp_path)
    file = append_baseline(baseline, tmp_path)
    assert read_baselines(file) == (baseline, later)


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
    with pytest.raises(ConfigError, match=r":2 is not a baseline"):
        read_baselines(file)
    before = file.read_text()
    with pytest.raises(ConfigError):
        append_baseline(baseline, tmp_path)
    assert file.read_text() == before


def test_a_cell_that_lacks_a_field_is_refused(baseline, tmp_path):
    line = json.loads(baseline.to_json())
    del line["cells"][0]["exact"]
    file = tmp_path / "x.jsonl"
    file.write_text(json.dumps(line))
    with pytest.raises(ConfigError, match="exact"):
        read_baselines(file)
