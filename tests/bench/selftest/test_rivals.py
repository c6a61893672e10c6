import json
from pathlib import Path

import pytest

from bench.plan import plan
from bench.selftest import children, rival_child, rivals
from bench.selftest.units import Unit
from bench.worker.jobs import Interrupt
from tests.bench.selftest.runs import config

CONFIG = config(seq_len=[64, 128], rivals={"num_trials": 4, "cells_per_process": 2})
CELLS = [p.cell for p in plan(CONFIG.sweep)]


class FakeProcesses:
    """Each item takes its number of calls, in seconds, and a process is slower than the last."""

    def __init__(self, *, code=0):
        self.asked = []
        self.code = code

    def run(self, words, environment, log, *, timeout_s, interrupt):
        items = json.loads(environment[rival_child.ITEMS])
        self.asked.append((words, items, environment))
        slower = len(self.asked)
        medians = {i["name"]: slower * (rival_child.BUNCH + i["extra"]) for i in items}
        log.write(b"what it said")
        if self.code == 0:
            is_pytest = "pytest" in words
            named = [{"param": k, "stats": {"median": v}} for k, v in medians.items()]
            out = next(word for word in words if "medians.json" in word).rpartition("=")[2]
            Path(out).write_text(json.dumps({"benchmarks": named} if is_pytest else medians))
        return self.code


def ask(monkeypatch, tool, index=0, **fake):
    processes = FakeProcesses(**fake)
    monkeypatch.setattr(children, "run", processes.run)
    unit = Unit(part="rivals", is_loaded=False, index=index, tool=tool)
    line = rivals.ask_a_rival(unit, CELLS, CONFIG, {"MALLOC_X": "1"}, Interrupt())
    return line, processes.asked


@pytest.mark.parametrize("tool", ["pytest_benchmark", "torch_timer"])
def test_each_side_has_a_process_of_its_own_and_the_slowdowns_their_exact_size(monkeypatch, tool):
    line, asked = ask(monkeypatch, tool)
    assert len(asked) == 2
    assert line["base_s"] == [20, 20]
    assert line["current_s"] == {"unchanged": [40, 40], "20": [42, 42], "10": [44, 44]}
    assert all(environment["MALLOC_X"] == "1" for _, _, environment in asked)


def test_pairs_of_processes_go_through_all_cells(monkeypatch):
    seen = [ask(monkeypatch, "torch_timer", index)[0]["cells"] for index in range(2)]
    assert seen == [["softmax 64", "linear 64"], ["softmax 128", "linear 128"]]


def test_the_time_to_spend_is_said_to_both(monkeypatch):
    (words, _, _), _ = ask(monkeypatch, "pytest_benchmark")[1]
    assert "--benchmark-max-time=0.6" in words
    (words, _, _), _ = ask(monkeypatch, "torch_timer")[1]
    assert words[-1] == "0.6"


def test_a_rival_that_fails_is_no_number(monkeypatch):
    with pytest.raises(RuntimeError, match="torch_timer ended with 1:\nwhat it said"):
        ask(monkeypatch, "torch_timer", code=1)


def test_a_bunch_makes_as_many_calls_as_it_says():
    calls = []
    rival_child.in_bunches(lambda: calls.append(1), 21)()
    assert len(calls) == 21


def test_items_of_one_cell_share_what_was_built(monkeypatch):
    cell = CELLS[0].to_dict()
    asked = [{"name": str(extra), "cell": cell, "extra": extra} for extra in (0, 1, 2)]
    monkeypatch.setenv(rival_child.ITEMS, json.dumps(asked))
    built = []
    monkeypatch.setattr("bench.subject.Subject", lambda c: built.append(c) or FakeSubject())
    found = rival_child.items()
    assert [item.name for item in found] == ["0", "1", "2"] and len(built) == 1
    for item in found:
        FakeSubject.calls = 0
        item.call()
        assert FakeSubject.calls == 20 + int(item.name)


class FakeSubject:
    calls = 0

    def rotate(self):
        pass

    def call(self):
        FakeSubject.calls += 1
