"""The command on units that cost nothing, and once for real on the smallest ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.app.errors import ConfigError
from bench.mechanisms import command
from bench.mechanisms.data import Line, read_measured
from bench.mechanisms.units import FORMS, SAVED, THREADS, Unit, id_of
from bench.worker.jobs import Interrupted
from tests.bench.mechanisms.runs import composed

SECONDS = {
    "linear": 1.0,
    "linear 1 thread": 1.5,
    "linear official": 2.0,
    "linear plain": 2.0,
    "softmax": 4.0,
}


@pytest.fixture(autouse=True)
def free(monkeypatch: pytest.MonkeyPatch) -> list[Unit]:
    """Units that take no time; returns those that were asked for."""
    asked: list[Unit] = []

    def fake(unit: Unit, jobs: object) -> Line:
        asked.append(unit)
        members = [cell.entry for cell in unit.cells]
        if unit.part == SAVED:
            return unit.to_dict() | {"reason": None, "saved_bytes": [640 for _ in members]}
        return unit.to_dict() | {
            "reason": None,
            "rounds": [[SECONDS[name] for name in members] for _ in range(7)],
            "processes": [0 for _ in range(7)],
            "flops": [1 for _ in members],
            "num_parameters": [0 for _ in members],
            "is_noisy": False,
        }

    def fake_again(unit: Unit, jobs: object, line: Line) -> Line:
        more = fake(unit, jobs)
        return line | {
            "rounds": line["rounds"] + more["rounds"],
            "processes": line["processes"] + [1 + n for n in range(len(more["rounds"]))],
            "confirmed_from": 1,
        }

    monkeypatch.setattr(command, "measured_unit", fake)
    monkeypatch.setattr(command, "confirmed_unit", fake_again)
    return asked


def run(tmp_path: Path, **changes: Any) -> int:
    given = composed(
        **{
            "attention": {"linear": {"mechanism": "linear"}},
            "seq_len": 64,
            "num_threads": 1,
            "out": str(tmp_path),
            "page": str(tmp_path / "speed.md"),
        }
        | changes
    )
    return command.compare(given)


def test_a_run_writes_data_table_and_page_and_a_second_one_measures_nothing(
    tmp_path: Path, free: list[Unit]
) -> None:
    assert run(tmp_path) == 0
    num_units = len(free)
    assert num_units == len(read_measured(tmp_path / "mechanisms").lines) > 0
    assert (tmp_path / "mechanisms" / "mechanisms.csv").read_text().startswith("entry,against")
    assert "# Speed of the mechanisms" in (tmp_path / "speed.md").read_text()
    assert run(tmp_path) == 0
    assert len(free) == num_units
    assert run(tmp_path, fresh=True) == 0
    assert len(free) == 2 * num_units


def test_it_says_how_long_it_will_take_before_it_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path)
    first = capsys.readouterr().out.splitlines()[0]
    assert "measurements, about" in first
    assert "at most 30 min" in first


def test_something_slower_is_a_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SECONDS, "linear", 3.0)
    assert run(tmp_path) == 1


def test_what_was_found_slower_is_measured_again_after_all_else(
    tmp_path: Path, free: list[Unit], monkeypatch: pytest.MonkeyPatch
) -> None:
    confirm = command.confirmed_unit

    def faster(unit: Unit, jobs: Any, line: Line) -> Line:
        monkeypatch.setitem(SECONDS, "linear", 1.0)
        return confirm(unit, jobs, line)

    def interrupted(unit: Unit, jobs: Any, line: Line) -> Line:
        raise Interrupted

    monkeypatch.setitem(SECONDS, "linear", 3.0)
    monkeypatch.setattr(command, "confirmed_unit", interrupted)
    assert run(tmp_path) == 130
    stored = read_measured(tmp_path / "mechanisms").lines
    assert len(stored) == len(free), "what was found first is kept"
    command.main(["report=true", f"out={tmp_path}", f"page={tmp_path}/speed.md"])
    once = "some of what is marked `!` here was measured once"
    assert once in (tmp_path / "speed.md").read_text().replace("\n", " ")
    free.clear()
    monkeypatch.setattr(command, "confirmed_unit", faster)
    assert run(tmp_path) == 0, "not slower twice"
    assert once not in (tmp_path / "speed.md").read_text().replace("\n", " ")
    assert {unit.part for unit in free} == {FORMS} and {u.num_processes for u in free} == {6}
    free.clear()
    assert run(tmp_path) == 0
    assert free == []


def test_two_threads_that_are_slower_than_one_are_a_verdict(
    tmp_path: Path, free: list[Unit], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.machine.environment._num_cores", lambda: 2)
    assert run(tmp_path, num_threads=[1, 2]) == 0
    assert any(unit.part == THREADS for unit in free)
    monkeypatch.setitem(SECONDS, "linear 1 thread", 0.5)
    assert run(tmp_path, num_threads=[1, 2], fresh=True) == 1
    page = (tmp_path / "speed.md").read_text().replace("\\", "")
    first, _ = page.split("## Tables")
    assert "| linear / 1 thread | 64 | forward, 2 threads, default | 2 [2, 2] |" in first


def test_a_part_can_be_measured_again_and_the_rest_is_kept(
    tmp_path: Path, free: list[Unit], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path)
    before = {unit.id for unit in free}
    free.clear()
    monkeypatch.setitem(SECONDS, "linear", 3.0)
    words = "forms core N=64 forward 1 thread default"
    assert run(tmp_path, again=words) == 1
    assert [unit.describe() for unit in free] == [words, words], "and once more: it is slower"
    lines = read_measured(tmp_path / "mechanisms").lines
    assert {id_of(line) for line in lines} == before


def test_a_line_that_was_taken_out_of_the_data_is_measured_again(
    tmp_path: Path, free: list[Unit]
) -> None:
    run(tmp_path)
    data = read_measured(tmp_path / "mechanisms")
    gone, *kept = data.lines
    data.lines = kept[:-1]
    data.add(kept[-1])
    free.clear()
    run(tmp_path)
    assert [unit.id for unit in free] == [id_of(gone)]


@pytest.mark.parametrize(
    ("words", "is_stored", "said"),
    [("no such", True, "They read like 'forms core N=64"), ("forms", False, "Leave again out")],
)
def test_again_that_cannot_be_done_is_a_mistake_and_changes_nothing(
    tmp_path: Path, free: list[Unit], words: str, is_stored: bool, said: str
) -> None:
    if is_stored:
        run(tmp_path)
    free.clear()
    with pytest.raises(ConfigError, match=said):
        run(tmp_path, again=words)
    assert free == []


def test_a_calibration_is_kept_with_what_was_measured(
    tmp_path: Path, free: list[Unit], monkeypatch: pytest.MonkeyPatch
) -> None:
    ceilings = {"ceilings": []}
    monkeypatch.setattr(command, "read_calibration", lambda *_: ceilings)
    run(tmp_path)
    monkeypatch.setattr(command, "read_calibration", lambda *_: None)  # as on another machine
    run(tmp_path, report=True)
    facts, *_ = read_measured(tmp_path / "mechanisms").session.environments.values()
    assert facts["calibration"] == ceilings


def test_the_page_is_written_again_from_what_is_stored(tmp_path: Path, free: list[Unit]) -> None:
    run(tmp_path)
    page = (tmp_path / "speed.md").read_text()
    (tmp_path / "speed.md").unlink()
    num_units = len(free)
    assert run(tmp_path, report=True) == 0
    assert (tmp_path / "speed.md").read_text() == page
    assert len(free) == num_units


def test_ctrl_c_keeps_what_is_measured_and_the_same_command_goes_on(
    tmp_path: Path, free: list[Unit], monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = command.measured_unit

    def interrupted(unit: Unit, jobs: Any) -> Line:
        if len(free) == 2:
            raise Interrupted
        return measure(unit, jobs)

    with monkeypatch.context() as patch:
        patch.setattr(command, "measured_unit", interrupted)
        assert run(tmp_path) == 130
    assert len(read_measured(tmp_path / "mechanisms").lines) == 2
    assert run(tmp_path) == 0
    assert len({unit.id for unit in free}) == len(free), "nothing was measured twice"


def test_when_the_time_is_over_the_page_has_what_there_is(
    tmp_path: Path, free: list[Unit], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, max_minutes=0.0) == 0
    assert free == []
    assert "measurements are left" in capsys.readouterr().out


def test_a_plan_without_any_unit_is_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = command.main(
        ["attention=[nala]", "causal=true", f"out={tmp_path}", f"page={tmp_path}/x.md"]
    )
    assert code == 2
    assert "Nothing to compare" in capsys.readouterr().err


def test_an_entry_with_one_form_ends_with_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["attention=[dpfp]", f"out={tmp_path}"]) == 2
    assert "dpfp has one form only" in capsys.readouterr().err


def test_the_default_plan_holds_every_entry_and_both_allocators(
    tmp_path: Path, free: list[Unit], capsys: pytest.CaptureFixture[str]
) -> None:
    """Every name in conf/mechanisms.yaml exists and has another form."""
    words = [f"out={tmp_path}", f"page={tmp_path}/x.md", "max_minutes=0", "seq_len=[64,16384]"]
    assert command.main(words) == 0
    assert "Wrote" in capsys.readouterr().out


@pytest.mark.slow
def test_the_smallest_units_are_measured_for_real(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.mechanisms.measuring import confirmed, measured

    monkeypatch.setattr(command, "measured_unit", measured)
    monkeypatch.setattr(command, "confirmed_unit", confirmed)
    code = run(tmp_path, causal=False, allocator="default", mode=["forward_backward"])
    lines = read_measured(tmp_path / "mechanisms").lines
    assert code in (0, 1)
    assert [line["reason"] for line in lines] == [None, None, None]
    forms = next(line for line in lines if line["part"] == FORMS)
    assert len(forms["rounds"]) == len(forms["processes"]) >= 12
    again = forms["confirmed_from"] is not None  # after six that found ours slower
    assert sorted(set(forms["processes"])) == list(range(12 if again else 6))
    assert next(line for line in lines if line["part"] == SAVED)["saved_bytes"][0] > 0


@pytest.mark.slow
def test_a_layers_core_and_two_threads_are_measured_for_real(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.mechanisms.measuring import confirmed, measured

    monkeypatch.setattr("bench.machine.environment._num_cores", lambda: 2)
    monkeypatch.setattr(command, "measured_unit", measured)
    monkeypatch.setattr(command, "confirmed_unit", confirmed)
    layer = {"flatten_layer": {"mechanism": "flatten_layer"}}
    places: dict[str, Any] = {"num_threads": [1, 2], "mode": "forward", "allocator": "default"}
    run(tmp_path, attention=layer, causal=False, **places)
    lines = read_measured(tmp_path / "mechanisms").lines
    assert [line["reason"] for line in lines] == [None] * len(lines)
    members = {tuple(line["members"]) for line in lines if line["part"] == THREADS}
    assert ("flatten_layer core", "flatten_layer core 1 thread") in members
