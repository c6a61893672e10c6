"""A session: progress, Ctrl-C, a time that is over, and the exit code of a study."""

import signal
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.core.settings import Folder, Settings
from bench.measuring.worker.jobs import Interrupt
from bench.studies import session as sessions
from bench.studies.session import Session, run_study


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


def test_what_is_noted_is_said_at_once(session, capsys):
    session.say("[red]as it is")
    session.note("left out")
    assert capsys.readouterr().out == "[red]as it is\nleft out\n"
    assert session.notes == ["left out"]


def test_the_command_line_is_what_was_typed_but_for_folders(session):
    assert session.command() == "attnbench example 'attention=[nala]'"


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
