"""Cells that are tried again, and the pauses between."""

import pytest

from bench.core.record import Status
from bench.measuring import engine
from bench.measuring.worker.jobs import Interrupt, Interrupted
from tests import records as made


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


def test_a_pause_ends_when_somebody_asks_to_stop():
    interrupt = Interrupt()
    interrupt.is_asked = True
    with pytest.raises(Interrupted):
        interrupt.pause(60)
