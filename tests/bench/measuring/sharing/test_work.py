"""Sweeps into one store measure each cell once, and each of them ends with all records."""

import os
import threading
from collections import Counter
from dataclasses import replace
from socket import gethostname

import pytest

from bench.core.clock import now_s, sleep_s
from bench.core.record import Status
from bench.core.store import Store, Tail, read_records
from bench.measuring.config import read_sweep_config
from bench.measuring.device import KINDS
from bench.measuring.machine import environment
from bench.measuring.machine.environment import kind_of_machine
from bench.measuring.measure.stopping import Stopping
from bench.measuring.plan import plan
from bench.measuring.run import Runner
from bench.measuring.sharing import devices
from bench.measuring.sharing.leases import Leases, leases_folder
from bench.measuring.sharing.work import SharedWork, in_order
from bench.measuring.worker.jobs import Interrupt, Interrupted, Jobs
from bench.measuring.worker.outcome import Outcome
from bench.measuring.worker.training import Training, Trainings
from tests.bench.measuring.sharing.test_leases import forged
from tests.bench.measuring.test_config import BASE
from tests.fake_device import FakeDevice
from tests.records import failed_record, kernel_cell

ENDED = Outcome(status=Status.DIVERGED, reason="measured")


class Silent:
    def __init__(self):
        self.said, self.announced = [], []

    def say(self, words):
        self.said.append(words)

    def announce(self, words):
        self.said.append(words)
        self.announced.append(words)


@pytest.fixture(autouse=True)
def nothing_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "_folder", lambda: tmp_path)
    monkeypatch.setattr("bench.measuring.run._WAIT_S", 0.01)

    def measured(self, cells):
        yield from (self._record(cell, ENDED) for cell in cells)

    monkeypatch.setattr(Runner, "_run_block", measured)
    monkeypatch.setattr(Trainings, "start", start)
    monkeypatch.setattr(Trainings, "ended", end_all)


def start(trainings, cell, lock):
    at = "2026-01-01T00:00:00+00:00"
    trainings._running[cell.key] = Training(cell=cell, started_s=now_s(), started_at=at, lock=lock)


def end_all(trainings):
    return [(trainings._pop(key), ENDED) for key in list(trainings._running)]


class Sweep:
    """One of several over the same plan."""

    def __init__(self, out, name):
        self.config = read_sweep_config(
            BASE
            | {"attention": {n: {"mechanism": n} for n in ("softmax", "linear", "nala_layer")}}
            | {"task": {"recall": {"task": "recall"}}, "seq_len": [32, 48, 64], "out": str(out)}
        )
        self.plan = plan(self.config)
        self.here = environment.current(("cpu",), "retain", {})
        self.tail = Tail(out)
        self.store = Store(out, name)
        self.tail.leave_out(self.store)
        self.new, self.of_others, self.listener = [], [], Silent()

    def run(self, interrupt=None):
        cells = [p.cell for p in self.plan]
        jobs = Jobs(None, 1.0, interrupt or Interrupt())
        with Leases(self.config.out) as leases:
            work = SharedWork(leases, self.tail, lambda *_: True, cells, self.of_others.append)
            runner = Runner(self.config, self.here, jobs, self.listener, "test", work)
            for record in runner.run(self.plan):
                self.store.append(record)
                self.new.append(record)


def heard(sweep, words):
    """Wait until a sweep has said something of the kind."""
    ends_s = now_s() + 60
    while not any(words in said for said in sweep.listener.said):
        assert now_s() < ends_s, sweep.listener.said
        sleep_s(0.01)


def test_three_sweeps_of_one_plan_measure_each_cell_once(tmp_path):
    sweeps = [Sweep(tmp_path / "out", name) for name in "abc"]
    threads = [threading.Thread(target=sweep.run) for sweep in sweeps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = Counter(record.cell.key for record in read_records(tmp_path / "out"))
    assert counts == {p.cell.key: 1 for p in sweeps[0].plan}
    for sweep in sweeps:
        assert len(sweep.new) + len(sweep.of_others) == len(sweep.plan)
    timing = devices.DeviceLock("cpu", shared=False, store=tmp_path / "out")
    assert timing.try_take(), "a training that another sweep had keeps the device"
    timing.release()


def test_a_lease_is_held_until_its_record_is_stored(tmp_path):
    one = Sweep(tmp_path / "out", "one")
    append, held = one.store.append, []

    def look(record):
        held.append([file.name for file in leases_folder(one.config.out).iterdir()])
        append(record)

    one.store.append = look
    one.run()
    for record, names in zip(one.new, held, strict=True):
        unit = record.cell.key if record.cell.is_task else record.cell.block
        start = "skipped" if record.status is Status.SKIPPED else unit
        assert start in [name.partition("-")[0] for name in names]
    assert {record.cell.is_task for record in one.new} == {True, False}


@pytest.mark.parametrize(
    ("status", "is_kept"), [(Status.DIVERGED, False), (Status.CRASHED, True)], ids=str
)
def test_a_checkpoint_goes_with_the_record_that_settles_its_cell(
    tmp_path, monkeypatch, status, is_kept
):
    one = Sweep(tmp_path / "out", "one")
    monkeypatch.setattr(
        "tests.bench.measuring.sharing.test_work.ENDED", Outcome(status=status, reason="ended")
    )
    file = one.config.out / "checkpoints" / f"{one.plan[-1].cell.key}.pt"
    file.parent.mkdir()
    file.touch()
    assert one.plan[-1].cell.is_task
    one.run()
    assert file.exists() is is_kept


def test_a_sweep_waits_for_what_another_holds_says_whose_it_is_and_takes_its_records(tmp_path):
    one, another = Sweep(tmp_path / "out", "one"), Sweep(tmp_path / "out", "another")
    block = [p.cell for p in one.plan if p.unsupported is None and not p.cell.is_task][:2]
    name = f"{block[0].block}-{kind_of_machine('cpu', one.here)}"
    with Leases(tmp_path / "out") as leases:
        assert leases.acquire(name, "2 at seq_len=32")
        thread = threading.Thread(target=one.run, daemon=True)
        thread.start()
        while not any("waiting for" in words for words in one.listener.said):
            pass
        for cell in block:
            another.store.append(failed_record(cell, Status.INCORRECT, "wrong"))
        leases.release(name)
        thread.join()
    waiting = next(words for words in one.listener.said if words.startswith("waiting for"))
    assert f":{os.getpid()} (2 at seq_len=32)" in waiting
    assert [record.cell for record in one.of_others] == block
    assert len(one.new) == len(one.plan) - 2


def test_a_record_of_another_sweep_that_settles_nothing_leaves_its_cell_to_this_one(tmp_path):
    one, another = Sweep(tmp_path / "out", "one"), Sweep(tmp_path / "out", "another")
    cell, told = one.plan[0].cell, []
    for status in (Status.CRASHED, Status.INCORRECT):
        another.store.append(failed_record(cell, status, "wrong"))

    def settles(record, cell):
        return record.status is Status.INCORRECT

    with Leases(tmp_path / "out") as leases:
        work = SharedWork(leases, one.tail, settles, [cell], told.append)
        assert work.acquire("block", [cell], "") == [] and leases.acquire("block")
    assert [record.status for record in told] == [Status.INCORRECT]


def test_ctrl_c_ends_the_wait_for_another_sweep(tmp_path):
    one = Sweep(tmp_path / "out", "one")
    block = next(p.cell for p in one.plan if p.unsupported is None)
    name = f"{block.block}-{kind_of_machine('cpu', one.here)}"
    interrupt = Interrupt()
    one.listener.say = lambda words: setattr(interrupt, "is_asked", "waiting" in words)
    with Leases(tmp_path / "out") as leases:
        leases.acquire(name)
        with pytest.raises(Interrupted):
            one.run(interrupt)
    assert len(one.new) == len(one.plan) - 2


def test_a_sweep_waits_in_line_for_a_device_that_another_times_on(tmp_path):
    one = Sweep(tmp_path / "out", "one")
    elsewhere = devices.DeviceLock("cpu", shared=False)
    assert elsewhere.try_take()
    thread = threading.Thread(target=one.run, daemon=True)
    thread.start()
    heard(one, "waiting for cpu")
    assert not [r for r in one.new if r.status is not Status.SKIPPED]
    elsewhere.release()
    thread.join()
    assert len(one.new) == len(one.plan)
    assert sum("waiting for cpu" in said for said in one.listener.announced) == 1


def test_two_accelerators_are_timed_at_the_same_time_and_the_cpu_alone(tmp_path, monkeypatch):
    monkeypatch.setitem(KINDS, "cuda", FakeDevice)
    at_work, both = [], threading.Barrier(2, timeout=60)

    def measured(self, cells):
        at_work.append(cells[0].device)
        if cells[0].device != "cpu":
            both.wait()  # neither would get past it alone
        else:
            assert at_work[-1:] == ["cpu"] and len(at_work) == 3
        yield from (self._record(cell, ENDED) for cell in cells)

    monkeypatch.setattr(Runner, "_run_block", measured)
    one = Sweep(tmp_path / "out", "one")
    block = [p for p in one.plan if p.unsupported is None and not p.cell.is_task][:2]
    one.plan = [
        replace(p, cell=replace(p.cell, device=device))
        for device in ("cpu", "cuda:0", "cuda:1")
        for p in block
    ]
    one.run()
    assert sorted(at_work) == ["cpu", "cuda:0", "cuda:1"]
    assert Counter(r.cell.device for r in one.new) == {"cpu": 2, "cuda:0": 2, "cuda:1": 2}


def test_the_cheapest_unit_comes_first_and_the_longest_where_machines_share_the_work():
    units = [[kernel_cell("softmax", seq_len=n)] for n in (4096, 16384, 8192)]
    small, middle, large = units[0], units[2], units[1]
    stopping = Stopping(min_rounds=7)
    assert in_order(units, stopping, is_across_machines=False) == [small, middle, large]
    assert in_order(units, stopping, is_across_machines=True) == [large, middle, small]


def test_a_sweep_names_who_holds_what_it_waits_for_and_sees_other_hosts(tmp_path):
    out = tmp_path / "out"
    with Leases(out) as mine, Leases(out) as other:
        work = SharedWork(mine, Tail(out), lambda *_: True, [], print)
        other.acquire("block 1", "its first")
        other.acquire("block 2", "its second")
        words = f"{gethostname()}:{os.getpid()} (its second)"
        assert work.holders(["block 2", "block 3"]) == words
        assert not work.is_across_machines
        forged(out, "block 4")
        assert work.is_across_machines
