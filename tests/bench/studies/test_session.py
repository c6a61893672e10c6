"""A session: progress, Ctrl-C, a time that is over, and the exit code of a study."""

import re
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
from bench.publishing.document import Document
from bench.studies import session as sessions
from bench.studies.roots import root_of
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


def test_no_unit_begins_once_no_time_is_left(session, capsys):
    with session.each(UNITS, within_s=0) as todo:
        assert [*todo] == []
    assert "No further unit would end within 0" in capsys.readouterr().out


def test_a_log_gets_a_line_no_more_often_than_asked(session, capsys):
    with session.each(UNITS, line_every_s=1000.0) as todo:
        assert len([*todo]) == 3
    assert re.findall(r"\[./3\]", capsys.readouterr().out) == ["[3/3]"]


def test_names_are_done_one_by_one_and_nothing_goes_on_after_ctrl_c(session, capsys):
    def work(name):
        if name == "two":
            signal.raise_signal(signal.SIGINT)
        return f"{name} is done"

    session.one_by_one(["one", "two"], "page", work)
    said = capsys.readouterr().out
    assert "[1/2] one: one is done" in said and said.endswith("\nStopped.\n")
    assert session.notes == ["Stopped after 1 of 2 pages."]


def test_progress_within_a_unit_is_shown_until_the_units_end(session, monkeypatch):
    shown = []
    monkeypatch.setattr(sessions.UnitProgress, "say", lambda _, words: shown.append(words))
    session.status("before")
    with session.each(UNITS[:1]) as todo:
        for _ in todo:
            session.status("step 1 of 2")
    session.status("after")
    assert shown == ["one", "step 1 of 2"]


def test_what_is_noted_is_said_at_once(session, capsys):
    session.say("[red]as it is")
    session.note("left out")
    assert capsys.readouterr().out == "[red]as it is\nleft out\n"
    assert session.notes == ["left out"]


def test_the_command_line_is_what_was_typed_but_for_folders(session):
    assert session.command() == "attnbench example 'attention=[nala]'"


@pytest.mark.parametrize(
    ("file", "program"),
    [
        ("/home/me/example.py", "python example.py"),
        ("/home/me/attnbench/bench/example.py", "attnbench example"),
        ("/home/me/bin/attnbench", "attnbench example"),
        (None, "attnbench example"),
    ],
)
def test_a_study_in_its_users_folder_is_called_by_its_file(session, monkeypatch, file, program):
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__file__=file))
    assert session.command() == f"{program} 'attention=[nala]'"


def test_a_page_says_where_it_was_made_when_and_how_long_it_took(session, monkeypatch):
    clock = [session._began_s + 90.0]
    monkeypatch.setattr(sessions, "now_s", lambda: clock[0])
    monkeypatch.setattr(sessions, "utc_now", lambda: "2031-05-06T07:08:09Z")
    session.machine = replace(session.machine, commit="0123456789abcdef", is_dirty=False)
    assert ", commit 0123456" in session.place and session.place.endswith(", 2031-05-06")
    assert session.origin() == f"{session.place}, 1 min 30 s of wall time"


def test_a_published_page_names_its_files(session, monkeypatch, tmp_path, capsys):
    files = [tmp_path / "a.md", tmp_path / "a" / "b.svg"]
    monkeypatch.setattr(sessions, "write_illustrated", lambda document, page: files)
    session.publish(Document("A page", []), files[0])
    assert re.findall("wrote (.*)", capsys.readouterr().out) == [*map(str, files)]


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


def test_a_machine_is_described_with_the_devices_that_it_has(session, monkeypatch):
    asked = []
    server = SimpleNamespace(environment=lambda: {"A": "1"})
    monkeypatch.setattr(sessions, "available_devices", lambda: ("cpu", "cuda"))
    monkeypatch.setattr(session, "server", lambda _: server)
    monkeypatch.setattr(sessions.environment, "current", lambda *given: asked.append(given))
    config = SimpleNamespace(run=SimpleNamespace(allocator="default"))
    session.here(config, ["cuda", "mps", "cpu", "cuda"])
    assert asked == [(("cuda", "cpu"), "default", {"A": "1"})]


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


def test_of_a_file_its_folder_is_checked_and_of_a_folder_itself(tmp_path, exits):
    class Other(Example):
        docs: Folder | None = None

    (tmp_path / "a.json").write_text("")
    words = [f"out={tmp_path / 'a.json'}"]
    assert run_study("example", Other, lambda *_: 4, words, out_is_file=True) == 4
    words.append(f"docs={tmp_path / 'a.json'}")
    said = exits(2, run_study("example", Other, lambda *_: 4, words, out_is_file=True))
    assert "is not a folder" in said


def test_a_command_without_yaml_is_told_whether_out_is_a_file(monkeypatch):
    roots = []
    monkeypatch.setattr(sessions, "run_app", lambda *_, root, **more: roots.append((root, more)))
    for name, is_file in (("example", True), ("example", False), ("sweep", True)):
        run_study(name, Example, lambda *_: 0, [], out_is_file=is_file)
    wanted = [root_of(Example, out_is_file=is_file) for is_file in (True, False)] + [None]
    assert roots == [(root, {"out_is_file": root != wanted[1]}) for root in wanted]


def test_plugins_are_imported_before_the_study(tmp_path, monkeypatch):
    class Plugged(Example):
        plugins: Many[Name] = ()

    asked = []
    monkeypatch.setattr("bench.measuring.plugins.import_plugins", asked.append)
    words = ["plugins=[one,two]", f"out={tmp_path}"]
    assert run_study("example", Plugged, lambda *_: len(asked), words) == 1
    assert asked == [("one", "two")]


def test_workers_end_with_the_session(session, monkeypatch):
    ended = []
    server = SimpleNamespace(stop=lambda: ended.append(1))
    monkeypatch.setattr(sessions, "WorkerServer", lambda allocator: server)

    class Config:
        class run:
            allocator = "retain"

    with Session("example", {}) as inner:
        assert inner.server(Config) is inner.server(Config)
    assert len(ended) == 1
