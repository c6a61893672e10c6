import json
from dataclasses import asdict, replace

import pytest

from bench.core.record import SCHEMA_VERSION, NewerSchema, Quality, Record, Speed, Status
from tests import records as made
from tests.bench.core.test_cell import KERNEL, TASK

SPEED = Speed(latency_s=(0.1, 0.2), rounds=(0, 1), fvcore_unsupported={"aten::exp": 2})


def test_a_record_survives_its_json_line():
    quality = Quality(
        accuracy=0.9, chance=0.1, guess="a digit", num_examples=540, num_parameters=7, losses=(1.0,)
    )
    for record in (
        Record(cell=KERNEL, status=Status.OK, result=SPEED, environment={"processor": "x"}),
        Record(cell=TASK, status=Status.OK, result=quality),
        Record(cell=KERNEL, status=Status.CRASHED, reason="signal 11", detail="words"),
    ):
        assert Record.from_json(record.to_json()) == record


def test_the_json_line_has_the_documented_top_level_fields():
    line = json.loads(Record(cell=KERNEL, status=Status.OK, result=SPEED).to_json())
    assert {"entry", "cell", "status", "reason", "result", "environment"} <= line.keys()
    assert line["entry"] == "performer_m64" and "entry" not in line["cell"]
    later = {
        "leaked_bytes",
        "ceiling",
        "kept_share",
        "sdpa_kernel",
        "energy_per_call_j",
        "fresh_speedup",
    }
    assert not later & line["result"].keys(), "older lines lack them, and stay as they are"


def test_what_a_line_does_not_tell_was_not_observed():
    record = json.loads(Record(cell=KERNEL, status=Status.OK, result=SPEED).to_json())
    written = {"kind", "latency_s", "rounds"}
    record["result"] = {k: v for k, v in record["result"].items() if k in written}
    del record["digest"]  # such lines are of before it was written
    speed = Record.from_json(json.dumps(record)).result
    known = {"latency_s", "rounds", "calls_per_sample", "reference", "checked_share"}
    assert speed.calls_per_sample == speed.checked_share == 1
    assert speed.reference == "softmax", "as it was before records said so"
    found = {name: value for name, value in asdict(speed).items() if name not in known}
    assert not any(found.values()), found  # None, 0, no, or an empty list


@pytest.mark.parametrize(
    "fields",
    [
        {"status": Status.OK},
        {"status": Status.OK, "result": SPEED, "reason": "but"},
        {"status": Status.SKIPPED},
        {"status": Status.SKIPPED, "result": SPEED, "reason": "no"},
    ],
)
def test_a_result_without_ok_or_a_failure_without_a_reason_cannot_be_made(fields):
    with pytest.raises(ValueError, match="ok has a result"):
        Record(cell=KERNEL, **fields)


def test_nan_never_reaches_the_disk():
    bad = Speed(latency_s=(float("nan"),), rounds=(0,))
    with pytest.raises(ValueError):
        Record(cell=KERNEL, status=Status.OK, result=bad).to_json()


def test_texts_are_bounded_and_printable_before_anyone_reads_them():
    rude = "\x1b[2J\0\ud800" + "x" * 10**7
    record = Record(cell=KERNEL, status=Status.ERROR, reason=rude, detail=rude)
    assert len(record.reason) == 1000 and len(record.detail) == 20_000
    assert record.reason.startswith("\\x1b[2J\\x00\\ud800xxx")
    line = record.to_json()
    assert len(line) < 30_000 and Record.from_json(line) == record
    older = json.loads(line) | {"reason": "kept by an older door \x07"}
    del older["digest"]
    old = json.dumps(older)
    assert Record.from_json(old).reason == "kept by an older door \\x07"


def test_records_of_a_block_share_what_they_have_in_common():
    lines = [record.to_json() for record in made.block_records(("softmax", "linear"))]
    one, other = map(Record.from_json, lines)
    assert [one.to_json(), other.to_json()] == lines
    whole = made.speed([0.1, 0.2], [1.0, 2.0], rounds=(1, 2), reference_rounds=(1, 2))
    line = made.ok_record(KERNEL, whole).to_json()
    assert Record.from_json(line).to_json() == line, "1.0 s is no round 1"
    assert one.environment is other.environment
    assert one.result.rounds is other.result.rounds
    assert one.result.reference_latency_s is other.result.reference_latency_s


def test_a_line_that_was_changed_after_it_was_written_is_refused():
    line = Record(cell=KERNEL, status=Status.OK, result=SPEED).to_json()
    assert Record.from_json(line + "\n").result == SPEED
    for changed in (
        line.replace('"latency_s":[0.1,', '"latency_s":[0.7,'),
        line.replace('"entry":"performer_m64"', '"entry":"performer_m46"'),
        line.replace(',"digest":"', ',"digest":"0'),
        line.replace('"digest":"', '"digest" :"'),
        line[:-1] + ',"later":1}',
        json.dumps(json.loads(line)),
    ):
        assert changed != line
        with pytest.raises(ValueError, match="changed after it was written"):
            Record.from_json(changed)
    older = line[: line.index(',"digest":')] + "}"
    assert Record.from_json(older).result == SPEED


def test_a_result_of_another_kind_than_its_cell_or_of_no_possible_shape_is_refused():
    line = json.loads(Record(cell=KERNEL, status=Status.OK, result=SPEED).to_json())
    del line["digest"]
    other = line | {"result": line["result"] | {"kind": "quality"}}
    with pytest.raises(ValueError, match="result is not of kind speed"):
        Record.from_json(json.dumps(other))
    bad = replace(KERNEL, workload=replace(KERNEL.kernel, key_len=8, causal=True))
    line |= {"key": bad.key, "cell": bad.to_dict()}
    with pytest.raises(ValueError, match="key_len needs causal=false"):
        Record.from_json(json.dumps(line))


def test_a_record_of_the_next_form_is_refused_and_known_to_be_newer():
    line = json.loads(Record(cell=KERNEL, status=Status.OK, result=SPEED).to_json())
    del line["digest"]
    with pytest.raises(NewerSchema, match=f"schema {SCHEMA_VERSION + 1}"):
        Record.from_json(json.dumps(line | {"schema_version": SCHEMA_VERSION + 1}))
