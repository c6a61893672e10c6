from __future__ import annotations

import csv
import io
import json

import pytest

from bench.core.record import Record, Status
from bench.publishing.csv import csv_text, flat_rows
from bench.publishing.metrics import find_metric
from tests import records as made

METRICS = ("latency_s", "speedup_over_softmax", "accuracy")


def rows(records: list[Record]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_text(records, METRICS), newline="")))


def test_there_is_one_row_a_record_with_all_that_it_says() -> None:
    records = made.sweep_records()
    found = rows(records)
    assert len(found) == len(records)
    for record, row in zip(records, found, strict=True):
        cell = record.cell.to_dict()
        for name in ("entry", "mechanism", "kind", "device", "dtype"):
            assert row[name] == cell[name]
        assert row["status"] == str(record.status)
        assert row["reason"] == (record.reason or "")
        assert row["key"] == record.cell.key
        assert row["started_at"] == record.started_at
        is_timed = record.result is not None and not record.cell.is_task
        assert row["reference"] == ("softmax" if is_timed else "")
        for name in METRICS:
            value = find_metric(name).of(record)
            assert row[name] == ("" if value is None else repr(value))


def test_the_columns_of_a_spreadsheet_come_first_and_metrics_in_the_order_asked_for() -> None:
    header = csv_text(made.sweep_records(), METRICS).partition("\r\n")[0].split(",")
    assert header[:5] == ["entry", "mechanism", "kind", "device", "num_threads"]
    start = header.index("latency_s")
    assert tuple(header[start : start + 3]) == METRICS
    needed = {"seq_len", "batch_size", "num_heads", "head_dim", "mode", "causal", "scope"}
    assert needed | {"task", "seed", "status", "reason"} <= set(header)


def test_values_are_plain_and_none_is_an_empty_field() -> None:
    kernel = made.block_records(["nala"], causal=True)[0]
    task = made.task_records(["nala"], seeds=[3])[0]
    timed, trained = rows([kernel, task])
    assert (timed["dtype"], timed["causal"], timed["seq_len"]) == ("float32", "true", "256")
    assert (timed["task"], timed["seed"], timed["accuracy"]) == ("", "", "")
    assert (trained["task"], trained["seed"], trained["latency_s"]) == ("recall", "3", "")


def test_marks_are_words_in_one_column() -> None:
    leaky = made.speed([1.0], leaks_future=True, is_foreign=True)
    plain = made.ok_record(made.kernel_cell("nala"), made.speed([1.0]))
    found = rows([made.ok_record(made.kernel_cell("p"), leaky), plain])
    assert [row["marks"] for row in found] == ["leaks the future; claims untested", ""]


def test_hyperparameters_are_json_in_one_column() -> None:
    cell = made.kernel_cell("p", hyperparameters={"num_features": 64, "kind": "a,b"})
    (row,) = rows([made.ok_record(cell, made.speed([1.0]))])
    assert json.loads(row["hyperparameters"]) == {"num_features": 64, "kind": "a,b"}


def test_lines_end_as_rfc_4180_wants_and_awkward_text_survives() -> None:
    reason = 'a "quoted", long\nreason | with everything; ü'
    record = made.failed_record(made.kernel_cell(), Status.ERROR, reason)
    text = csv_text([record], METRICS)
    assert text.endswith("\r\n")
    assert '""quoted""' in text
    assert rows([record])[0]["reason"] == reason


def test_a_replaced_record_keeps_its_row_and_says_that_it_was_replaced() -> None:
    cell = made.kernel_cell("nala")
    old = made.failed_record(cell, Status.CRASHED, "SIGSEGV", started_at="2030-01-01T00:00:00Z")
    new = made.ok_record(cell, made.speed([1.0]))
    assert [row["is_latest"] for row in rows([old, new])] == ["false", "true"]


def test_flat_rows_hold_numbers_and_every_column() -> None:
    columns, found = flat_rows(made.sweep_records(), METRICS)
    assert all(tuple(row) == columns for row in found)
    assert isinstance(found[0]["latency_s"], float)
    assert found[0]["causal"] is False


def test_no_records_are_a_header_alone() -> None:
    assert csv_text([], METRICS).count("\r\n") == 1


def test_the_side_that_sets_the_floor_is_a_word_of_its_own() -> None:
    calibrated = made.ENVIRONMENT | {"calibration": {"ceilings": [made.ceiling()]}}
    cell = made.kernel_cell("p")
    with_one = made.ok_record(cell, made.speed([1.0], flops=10**9), environment=calibrated)
    without = made.ok_record(cell, made.speed([1.0], flops=10**9))
    assert [row["bound"] for row in rows([with_one, without])] == ["compute", ""]


def test_no_cell_is_a_formula_to_a_spreadsheet() -> None:
    names = ["=cmd|'/c calc'!A1", "+1", "-1", "@sum", "a=b"]
    records = [made.ok_record(made.kernel_cell(name), made.speed([0.5])) for name in names]
    records += [made.failed_record(made.kernel_cell(), Status.ERROR, "\t=1+1")]
    found = rows(records)
    assert [row["entry"] for row in found[:-1]] == [f"'{name}" for name in names[:4]] + ["a=b"]
    assert found[-1]["reason"] == "'\t=1+1"
    assert found[0]["latency_s"] == "0.5"


def test_numbers_keep_their_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "bench.publishing.frame.evaluate", lambda record, metrics: {"latency_s": -0.5}
    )
    (row,) = rows([made.ok_record(made.kernel_cell(), made.speed([0.5]))])
    assert row["latency_s"] == "-0.5"
