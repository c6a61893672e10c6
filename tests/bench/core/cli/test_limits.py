import json
from typing import Any

import pytest

from bench.core.cli.limits import is_plain, parsed
from bench.core.record import Record, Status, unfit
from tests import records as made


def changed(record, path, value):
    """Its line with one value replaced."""
    line = json.loads(record.to_json())
    *parents, last = path.split(".")
    inner = line
    for name in parents:
        inner = inner[name]
    assert last in inner or value is not None, path
    inner[last] = value
    return json.dumps(line)


TIMED = made.block_records(["nala"], num_rounds=3)[0]
TRAINED = made.task_records(["nala"], seeds=[0])[0]
PAIRLESS = {"filter": "random", "keep": 0.5, "num_tokens": 4, "accuracy": 0.5, "flops": 1}
PAIRLESS |= {"latency_s": [1.0, 1.0], "unfiltered_latency_s": [1.0]}
ROOFLESS = {"flops_per_s": 1e-300, "bytes_per_s": [[1, 1e9]], "is_noisy": False}


@pytest.mark.parametrize(
    ("record", "path", "value", "words"),
    [
        (TRAINED, "result.accuracy", 2.0, "a share of right answers is 2.0; it is 1 at most"),
        (TRAINED, "result.chance", 1e50, "1e+50; it is 1 at most"),
        (TRAINED, "result.longer", {"12x": 0.5}, "a number of tokens"),
        (TRAINED, "result.ended", "done", "one of “”, ceiling, plateau, maximum"),
        (TRAINED, "result.kind", "speed", "kind quality"),
        (TRAINED, "cell.task_settings", {"a": [[]] * 20_000}, "settings is"),
        (TRAINED, "cell.task_settings", {"num_steps": 0}, "whole numbers for sizes, and a rate"),
        (TRAINED, "result.filtered", [{"filter": "random", "keep": 0.5}], "has no accuracy of"),
        (TRAINED, "result.filtered", [PAIRLESS], "random that do not go in pairs"),
        (TIMED, "result.kind", "quality", "kind speed"),
        (TIMED, "result.latency_s", [], "latency_s is ()"),
        (TIMED, "result.latency_s", [1.0, 2.0, -3.0], "latency_s.2 is -3.0"),
        (TIMED, "result.latency_s", [5e-324, 0.2, 0.2], "5e-324; it should be greater"),
        (TIMED, "result.latency_s", [1.0, 2.0], "latency_s has 2 samples and 3 rounds"),
        (TIMED, "result.reference_rounds", [0], "reference_latency_s has 3 samples and 1 rounds"),
        (TIMED, "result.processes", [0], "of 1 processes"),
        (TIMED, "result.load", {"foreign_cores": "many"}, "load.foreign_cores is 'many'"),
        (TIMED, "cell.seq_len", -5, "seq_len is -5"),
        (TIMED, "cell.seq_len", 512, "that of its cell"),
        (TIMED, "cell.mode", "sideways", "mode is 'sideways'; it must be one of forward"),
        (TIMED, "cell.device", "gpu", "device is 'gpu'; it must be cpu, or a kind of card"),
        (TIMED, "cell.kind", "kernels", "kind is 'kernels'"),
        (TIMED, "cell.hyperparameters", {"a\x1b[2J": 1}, "hyperparameters is"),
        (TIMED, "key", "0" * 16, "that of its cell"),
        (TIMED, "entry", "\x1b[31mnala", "entry is '\\x1b[31mnala'; it must be printable"),
        (TIMED, "started_at", "2031-02-30T00:00:00Z", "a time in UTC"),
        (TIMED, "result.ceiling", ROOFLESS, "ceiling.flops_per_s is 1e-300"),
        (TIMED, "status", "skipped", "ok has a result and no reason"),
        (TIMED, "status", "fine", "not a valid Status"),
        (TIMED, "environment", {"devices": 5}, "devices is 5"),
        (TIMED, "environment", {"calibration": {"ceilings": [{}]}}, "calibration.ceilings.0"),
    ],
)
def test_a_field_out_of_its_bounds_is_named(record, path, value, words):
    with pytest.raises(ValueError) as caught:
        Record.from_json(changed(record, path, value))
    assert words in str(caught.value)
    assert len(str(caught.value)) < 500


def test_every_record_that_is_made_can_be_read():
    every = [*made.sweep_records(), *made.model_records()]
    assert [Record.from_json(record.to_json()) for record in every] == every
    assert {record.status for record in every} == set(Status)
    assert not any(unfit(record.result) for record in every if record.result)


@pytest.mark.parametrize("text", ["NaN", "-Infinity", '{"a":NaN}', '{"a":1,"a":2}', "[" * 10**5])
def test_json_that_readers_differ_on_is_refused(text):
    with pytest.raises(ValueError):
        parsed(text)


def test_plain_values_are_bounded_in_depth_length_and_digits():
    deep: Any = 1
    for _ in range(16):
        deep = [deep]
    assert is_plain({"a": [1, 0.5, "word", None, True]}) and is_plain(deep)
    for bad in ([deep], 2**63, float("inf"), "x" * 5000, "\x07", [0] * 10_001, object()):
        assert not is_plain(bad)
