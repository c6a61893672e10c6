from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.app.errors import ConfigError
from bench.cell import Cell, TaskWorkload
from bench.publish.charts.plain import Curves
from bench.record import Quality, Record, Status
from bench.reproduce.papers import PaperCell, Protocol, Read
from bench.reproduce.stored import (
    Finding,
    Row,
    Run,
    entry_of,
    finding_file,
    judgement,
    read_finding,
    records_of,
    row_of,
    runs_of,
    task_of,
    write_finding,
)
from bench.reproduce.verdicts import Verdict

PROTOCOL = Protocol(
    name="p",
    task="recall",
    settings={"num_steps": 7},
    variants=({"vocab_size": 16}, {"vocab_size": 32}),
    grid={"learning_rate": (0.001, 0.01)},
    cost_s=1.0,
)
CELL = PaperCell(
    id="c",
    paper="Nobody, 2020",
    where="Table 1",
    what="softmax",
    published=0.5,
    tolerance=0.02,
    read=Read.TABLE,
    cost_s=1.0,
    attention="softmax",
    protocol=PROTOCOL,
)


def record(run: Run, accuracy: float = 0.5, seed: int = 0, **settings: Any) -> Record:
    row, task = row_of(CELL), task_of(PROTOCOL, run) | settings
    work = TaskWorkload(label=run.label, task=task.pop("task"), settings=task, seed=seed)
    cell = Cell(
        entry="softmax",
        mechanism=row.pop("mechanism"),
        hyperparameters=row,
        device="cpu",
        num_threads=1,
        workload=work,
    )
    result = Quality(accuracy=accuracy, chance=0.1, guess="", num_examples=10_000, num_parameters=1)
    return Record(cell=cell, status=Status.OK, result=result)


RUNS = tuple(runs_of(PROTOCOL))


def test_a_protocol_has_a_run_per_variant_and_point_of_the_grid() -> None:
    assert [(run.variant, run.point) for run in RUNS] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert RUNS[1].label == "p vocab_size=16 learning_rate=0.01"
    assert RUNS[1].settings == {"num_steps": 7, "vocab_size": 16, "learning_rate": 0.01}


def test_a_cell_is_judged_when_all_its_runs_are_there(tmp_path: Path) -> None:
    records = [
        record(run, accuracy) for run, accuracy in zip(RUNS, (0.1, 0.4, 0.6, 0.3), strict=True)
    ]
    assert judgement(CELL, [], tmp_path).verdict is Verdict.NOT_RUN
    part = judgement(CELL, records[:3], tmp_path)
    assert (part.verdict, part.words) == (Verdict.UNFINISHED, "3 of 4 runs are there")
    found = judgement(CELL, records, tmp_path)
    assert found.verdict is Verdict.REPRODUCED
    assert found.value == pytest.approx(0.5)


def test_the_newest_record_of_a_run_counts() -> None:
    old = replace(record(RUNS[0], 0.1), started_at="2026-01-01T00:00:00Z")
    new = replace(record(RUNS[0], 0.9), started_at="2026-01-02T00:00:00Z")
    for records in ([old, new], [new, old]):
        assert records_of(CELL, records)[0][0, 0] is new


def test_a_record_of_other_settings_is_not_of_the_cell() -> None:
    assert records_of(CELL, [record(RUNS[0], num_steps=8)]) == {}
    assert list(records_of(CELL, [record(RUNS[0], seed=3)])) == [3]


def test_settings_that_came_after_a_record_do_not_orphan_it() -> None:
    assert records_of(CELL, [record(RUNS[0], added_later=1)]) != {}


def test_a_run_that_diverged_has_nothing_right(tmp_path: Path) -> None:
    records = [record(run) for run in RUNS[1:]]
    lost = replace(record(RUNS[0]), status=Status.DIVERGED, result=None, reason="nan")
    assert judgement(CELL, [*records, lost], tmp_path).value == pytest.approx(0.5)


def test_what_a_mechanism_cannot_do_is_not_comparable(tmp_path: Path) -> None:
    skipped = replace(record(RUNS[0]), status=Status.SKIPPED, result=None, reason="no causal form")
    found = judgement(CELL, [skipped], tmp_path)
    assert (found.verdict, found.words) == (Verdict.NOT_COMPARABLE, "no causal form")


def test_a_finding_comes_back_as_it_was_written(tmp_path: Path) -> None:
    finding = Finding(
        verdict=Verdict.HOLDS_WHERE,
        words="below 2",
        rows=(Row(name="nala", value=0.1, low=0.0, high=0.2), Row(name="exact", value=1.0)),
        curves=Curves(title="t", x="norm", y="entropy", lines={"nala": [[1.0, 0.5]]}),
    )
    write_finding(tmp_path, "claim", finding)
    assert read_finding(tmp_path, "claim") == finding
    assert read_finding(tmp_path, "other") is None


def test_a_file_that_holds_no_finding_is_named(tmp_path: Path) -> None:
    file = finding_file(tmp_path, "claim")
    file.parent.mkdir()
    file.write_text("[]")
    with pytest.raises(ConfigError, match=r"claim\.json does not hold a finding"):
        read_finding(tmp_path, "claim")


def test_an_unknown_entry_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean softmax"):
        entry_of("attention", "softmx")
