"""Cells that are tried again, the pauses between, and what is left after an early end."""

import io

import pytest
from rich.console import Console

from bench.core.record import Status
from bench.core.store import read_records
from bench.measuring import engine
from bench.measuring.config import read_sweep_config
from bench.measuring.machine import environment
from bench.measuring.machine.environment import freshness
from bench.measuring.worker.jobs import Interrupt, Interrupted
from tests import records as made
from tests.bench.measuring.test_config import BASE


class Unlucky:
    """A runner whose cell crashes so many times."""

    def __init__(self, times):
        self.left = times

    def run(self, batch):
        for p in batch:
            self.left -= 1
            if self.left >= 0:
                yield made.failed_record(p.cell, Status.CRASHED, "killed")
            else:
                yield made.ok_record(p.cell, made.speed([0.1] * 8))


class Waits(Interrupt):
    def __init__(self):
        super().__init__()
        self.pauses = []

    def pause(self, seconds):
        self.pauses.append(seconds)


def tried(times, retry):
    kept, interrupt = [], Waits()
    batch = [engine.PlannedCell(cell=made.kernel_cell("linear"))]
    engine._run_with_retries(
        Unlucky(times), batch, retry, interrupt, lambda *words: kept.append(words)
    )
    return [(str(record.status), is_last) for record, is_last in kept], interrupt.pauses


def test_what_crashed_is_tried_again_after_growing_pauses():
    crash, last_crash, ok = ("crashed", False), ("crashed", True), ("ok", True)
    assert tried(0, retry=3) == ([ok], [])
    assert tried(2, retry=3) == ([crash, crash, ok], [1.0, 2.0])
    assert tried(9, retry=2) == ([crash, crash, last_crash], [1.0, 2.0])
    assert tried(9, retry=0) == ([last_crash], [])


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """`measured(statuses, **settings)` of two cells; a status of None is a stop at that cell.

    One of ``elsewhere`` is a record of another sweep.
    """

    class Written:
        def __init__(self, config, here, jobs, listener, sweep, work, roofs):
            self.work, self.here = work, here
            jobs.busy_s = 3.0

        def run(self, batch):
            for p in batch:
                status = statuses.pop(0)
                if status is None:
                    raise Interrupted
                if status == "elsewhere":
                    self.work._tell(made.failed_record(p.cell, Status.INCORRECT, "written"))
                    continue
                now = freshness(p.cell, self.here)
                yield made.failed_record(p.cell, status, "written", freshness=now)
                assert self.work.left([p.cell]), "its own record is taken for another sweep's"

    monkeypatch.setattr(engine, "Runner", Written)
    monkeypatch.setattr(engine.Interrupt, "pause", lambda self, seconds: None)
    statuses, out = [], tmp_path / "out"
    cells = [made.kernel_cell(name) for name in ("linear", "nala")]

    def measure(wanted, cells=cells, **settings):
        statuses[:] = wanted
        config = read_sweep_config(BASE | {"out": str(out)} | settings)
        todo = [engine.PlannedCell(cell=cell) for cell in cells]
        here = environment.current(("cpu",), "retain", {})
        console = Console(file=io.StringIO())
        return engine.measure(config, todo, here, None, "sweep", console), out

    return measure


def test_a_cell_that_is_tried_again_is_one_of_those_done_and_each_try_is_stored(measured):
    wrong, crash = Status.INCORRECT, Status.CRASHED
    done, out = measured([crash, wrong, crash], retry=1)
    assert [record.status for record in done.new] == [wrong, crash] and done.left_out == []
    assert [record.status for record in read_records(out)] == [crash, wrong, crash]
    assert done.busy_s == 3.0


def test_after_an_early_end_what_has_a_record_is_not_left_out(measured):
    done, _ = measured([Status.INCORRECT, None])
    assert done.is_interrupted and [p.cell.entry for p in done.left_out] == ["nala"]
    assert [record.cell.entry for record in done.new] == ["linear"]
    done, _ = measured(["elsewhere", None])
    assert [p.cell.entry for p in done.left_out] == ["nala"] and len(done.of_others) == 1
