"""A session: progress, Ctrl-C, a time that is over, and the exit code of a study."""

import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.core.record import Status
from bench.core.settings import Folder, Many, Name, Settings
from bench.measuring.machine.environment import source_of_training
from bench.measuring.worker.jobs import Deadline, Interrupt
from bench.studies import session as sessions
from bench.studies.session import Session, run_study
from tests import records as made


class Example(Settings):
    """Do nothing."""

    out: Folder = Path("results/example")


@dataclass(frozen=True)
class Unit:
    name: str
    expected_s: float = 1.0

    def describe(self) -> str:
        return self.name


UNITS = [Unit("one"), Unit("two"), Unit("three")]


@pytest.fixture
def session():
    with Session(
        "example", {"sweep_id": "s", "attention": {"nala": {}}, "given": ("out",), "out": "x"}
    ) as one:
        yield one


def test_units_come_one_by_one_with_progress(session, capsys):
    with session.each(UNITS) as todo:
        assert [unit.name for unit in todo] == ["one", "two", "three"]
    assert "[3/3] three" in capsys.readouterr().out
    assert not session.is_stopped and not session.notes


@pytest.mark.parametrize("until", [None, Interrupt()])
def test_ctrl_c_keeps_what_is_done_and_notes_how_far_it_came(session, capsys, until):
    seen = []
    with session.each(UNITS, "model", until=until) as todo:
        for unit in todo:
            if unit.name == "two":
                signal.raise_signal(signal.SIGINT)
            seen.append(unit.name)
    assert session.is_stopped
    # An `Interrupt` lets a unit end, for it is asked between two.
    assert seen == ["one"] if until is None else ["one", "two"]
    assert session.notes == [f"Stopped after {len(seen)} of 3 models."]
    assert "Stopped. The same command goes on from here." in capsys.readouterr().out


def test_no_unit_begins_that_would_end_too_late(session, capsys, monkeypatch):
    clock = [0.0]
    for module in ("bench.studies.session", "bench.core.progress"):
        monkeypatch.setattr(f"{module}.now_s", lambda: clock[0])
    with session.each(UNITS, "trial", within_s=2.5) as todo:
        for _ in todo:
            clock[0] += 1.0
    assert clock == [2.0] and not session.is_stopped
    assert "No further trial would end within 2 s." in capsys.readouterr().out


def test_names_are_done_one_by_one_and_nothing_goes_on_after_ctrl_c(session, capsys):
    def work(name):
        if name == "two":
            signal.raise_signal(signal.SIGINT)
        return f"{name} is done"

    session.one_by_one(["one", "two"], "page", work)
    said = capsys.readouterr().out
    assert "[1/2] one: one is done" in said and said.endswith("\nStopped.\n")
    assert session.notes == ["Stopped after 1 of 2 pages."]


def test_the_command_line_is_what_was_typed_but_for_folders(session):
    assert session.command() == "attnbench example 'attention=[nala]'"


def test_a_study_in_its_users_folder_is_called_by_its_file(session, monkeypatch):
    script = SimpleNamespace(__file__="/home/me/example.py")
    monkeypatch.setitem(sys.modules, "__main__", script)
    assert session.command() == "python example.py 'attention=[nala]'"


@pytest.mark.parametrize(("name", "said"), [("", "softmax"), ("the first", "the first")])
def test_a_model_is_kept_by_its_cell_and_its_source(session, tmp_path, monkeypatch, name, said):
    cell, files, told = made.task_cell(), [], []

    def fitted(cell, report, checkpoint):
        report("training", 3, 600, 0.1)
        return "a model"

    def checkpoint(*given):
        files.append(given)

    monkeypatch.setattr("bench.measuring.tasks.train.fitted", fitted)
    monkeypatch.setattr("bench.measuring.tasks.checkpoint.Checkpoint", checkpoint)
    monkeypatch.setattr(session, "status", told.append)
    assert session.trained(cell, tmp_path, name) == "a model"
    source = source_of_training(cell, session.machine)
    assert files == [(tmp_path / f"{cell.key}.pt", cell.key, source)]
    (line,) = told
    assert line.startswith(said) and line.endswith(": step 3 of 600")


def record(cell, day, status=Status.OK):
    return replace(made.task_records([cell.entry])[0], cell=cell, started_at=day, status=status)


def trained(session, monkeypatch, out, cells, measured, is_interrupted=False, **more):
    """Train cells where `measured` are the records that a sweep adds; gives known records too."""
    known = []

    def measure(*_, **__):
        made.stored(out, *measured, name="new")
        return SimpleNamespace(is_interrupted=is_interrupted)

    def missing(planned, stored, *_):
        known.extend(stored)
        return planned

    monkeypatch.setattr("bench.measuring.engine.measure", measure)
    monkeypatch.setattr("bench.measuring.todo.missing", missing)
    monkeypatch.setattr(
        sessions.environment, "is_good", lambda record, *_: record.started_at[0] != "1"
    )
    monkeypatch.setattr(session, "here", lambda *_: None)
    monkeypatch.setattr(session, "server", lambda _: None)
    planned = [SimpleNamespace(cell=cell) for cell in cells]
    return session.train(SimpleNamespace(out=out), planned, **more), known


def test_records_of_trained_cells_are_the_good_ones_by_their_start(session, monkeypatch, tmp_path):
    one, two, other = (made.task_cell(seed=seed) for seed in (1, 2, 3))
    last, first, old = (
        record(one, "2031-03-01T00:00:00Z"),
        record(one, "2031-02-01T00:00:00Z"),
        record(one, "1999-01-01T00:00:00Z"),
    )
    made.stored(tmp_path, record(other, "2031-01-01T00:00:00Z"), old)
    result, known = trained(session, monkeypatch, tmp_path, [one, two], [last], kept=[first])
    assert [r.started_at[:7] for r in known] == ["2031-02", "2031-01", "1999-01"]
    assert result.records == (first, last) and result.cut_off == (two,)
    assert result.by_key == {one.key: last}
    assert not result.is_interrupted and not session.is_stopped


def test_records_from_before_a_day_count_neither_as_known_nor_as_trained(
    session, monkeypatch, tmp_path
):
    cell = made.task_cell()
    early, then = record(cell, "2031-02-01T00:00:00Z"), record(cell, "2031-03-01T00:00:00Z")
    made.stored(tmp_path, early, then)
    result, known = trained(session, monkeypatch, tmp_path, [cell], [], since=then.started_at)
    assert known == [then] and result.records == (then,)


@pytest.mark.parametrize(
    ("until", "is_interrupted", "is_stopped"),
    [
        (None, True, True),
        (None, False, False),
        (Deadline(0.0), True, False),
        (Deadline(float("inf")), True, True),
    ],
)
def test_a_time_that_is_over_does_not_stop_a_study(
    session, monkeypatch, tmp_path, until, is_interrupted, is_stopped
):
    given = (session, monkeypatch, tmp_path, [made.task_cell()], [], is_interrupted)
    result, _ = trained(*given, until=until)
    assert result.is_interrupted == is_interrupted and session.is_stopped == is_stopped
    session.is_stopped = True
    trained(*given[:-1])
    assert session.is_stopped, "what was interrupted before stays so"


@pytest.mark.parametrize(
    ("given", "stopped", "code"), [(None, False, 0), (1, False, 1), (1, True, 130)]
)
def test_the_exit_code_is_the_studys_or_130_after_ctrl_c(tmp_path, given, stopped, code):
    def study(asked, session):
        assert asked.out == tmp_path
        session.is_stopped = stopped
        return given

    assert run_study("example", Example, study, [f"out={tmp_path}"]) == code


def test_a_folder_that_cannot_be_written_is_refused_before_the_study(tmp_path, exits):
    (tmp_path / "file").write_text("")
    said = exits(2, run_study("example", Example, lambda *_: 1, [f"out={tmp_path / 'file' / 'x'}"]))
    assert "is not a folder" in said


def test_plugins_are_imported_before_the_study(tmp_path, monkeypatch):
    class Plugged(Example):
        plugins: Many[Name] = ()

    asked = []
    monkeypatch.setattr("bench.measuring.plugins.import_plugins", asked.append)
    words = ["plugins=[one,two]", f"out={tmp_path}"]
    assert run_study("example", Plugged, lambda *_: len(asked), words) == 1
    assert asked == [("one", "two")]


def test_workers_end_with_the_session(monkeypatch):
    ended: list[int] = []
    server = SimpleNamespace(stop=lambda: ended.append(1))
    monkeypatch.setattr(sessions, "WorkerServer", lambda allocator: server)
    with Session("example", {}) as one:
        one.server(SimpleNamespace(run=SimpleNamespace(allocator="retain")))
    assert ended == [1]
