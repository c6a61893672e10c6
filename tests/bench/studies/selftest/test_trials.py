import json
from collections import Counter
from pathlib import Path

import pytest

from bench.core.cli.errors import ConfigError
from bench.measuring.plan import plan
from bench.measuring.worker.jobs import Interrupt, Interrupted, Jobs
from bench.measuring.worker.launch import WorkerServer
from bench.studies.gate.commits import PairedComparison
from bench.studies.gate.rows import GateVerdict, Interval
from bench.studies.selftest import rival_suite, trials
from bench.studies.selftest.rival_suite import BUNCH, PYTEST, TIMER
from bench.studies.selftest.trials import GATE, Unit, measure, units
from tests.bench.studies.selftest.made_up import sweep

CELLS = [p.cell for p in plan(sweep(seq_len=[64, 128]))]


@pytest.fixture
def jobs():
    return Jobs(WorkerServer(), 1.0, Interrupt())


def test_a_run_that_is_stopped_half_way_has_half_of_every_series():
    def series(some):
        return Counter((u.tool, u.is_loaded, u.percent) for u in some)

    todo = units(60, 20, 20, [PYTEST, TIMER])
    whole, half = series(todo), series(todo[: len(todo) // 2])
    assert whole[GATE, True, 10] == 20
    assert whole[GATE, False, 0] == whole[GATE, True, 0] == 30
    odd = series(units(61, 1, 1, []))  # the idle machine gets one more
    assert (odd[GATE, False, 0], odd[GATE, True, 0]) == (31, 30)
    assert whole[PYTEST, True, 0] == 4  # five trials each
    rivals = [unit.num_cells for unit in units(2, 1, 7, [PYTEST]) if unit.tool == PYTEST]
    assert rivals == [5, 5, 2, 2]  # idle and loaded, of 7 trials each
    assert all(abs(half[name] - count / 2) <= 1 for name, count in whole.items())


def test_the_gate_compares_the_tree_with_itself_slowed_down_as_asked(monkeypatch, jobs):
    asked = {}

    def compare(base, current, base_root, jobs, effort, *, tail, repeat_every):
        asked.update(base=base, current=current, tail=tail, every=repeat_every)
        interval = Interval(median=1.05, low=1.04, high=1.06)
        return PairedComparison(verdict=GateVerdict.SLOWER, interval=interval)

    monkeypatch.setattr(trials, "compare", compare)
    unit = Unit(tool=GATE, is_loaded=True, index=5, percent=5)
    (found,) = measure(unit, CELLS, jobs)
    assert asked["base"] is asked["current"] is CELLS[5 % len(CELLS)]
    assert asked["every"] == 20 and asked["tail"] == 0.01
    assert (found.percent, found.is_loaded, found.row.verdict) == (5, True, GateVerdict.SLOWER)


class FakeProcesses:
    """Each item takes its number of calls, in seconds, and each process the same."""

    def __init__(self, *, code=0):
        self.asked = []
        self.code = code

    def run(self, words, environment):
        items = json.loads(environment[rival_suite.ITEMS])
        self.asked.append((words, items))
        medians = {item["name"]: BUNCH + item["extra"] for item in items}
        if self.code == 0:
            is_pytest = "pytest" in words
            named = [{"param": k, "stats": {"median": v}} for k, v in medians.items()]
            out = next(word for word in words if "medians.json" in word).rpartition("=")[2]
            Path(out).write_text(json.dumps({"benchmarks": named} if is_pytest else medians))
        return self.code, "what it said"


@pytest.mark.parametrize("tool", [PYTEST, TIMER])
def test_a_rival_gets_a_process_per_side_and_slowdowns_of_exact_size(monkeypatch, jobs, tool):
    processes = FakeProcesses()
    monkeypatch.setattr(rival_suite, "run", processes.run)
    found = measure(Unit(tool=tool, is_loaded=False, index=5, num_cells=2), CELLS, jobs)
    assert len(processes.asked) == 2
    assert [word for word in processes.asked[0][0] if "0.6" in word]  # seconds per side
    assert Counter(t.percent for t in found) == {0: 2, 5: 2, 10: 2, 20: 2}
    assert {(t.percent, t.row.ratio, t.row.verdict) for t in found} == {
        (0, 1.0, GateVerdict.SAME),
        (5, 1.05, GateVerdict.SAME),  # not beyond the threshold
        (10, 1.1, GateVerdict.SLOWER),
        (20, 1.2, GateVerdict.SLOWER),
    }
    assert [t.row.key for t in found[:2]] == [CELLS[1].key, CELLS[2].key]


def test_a_rival_that_fails_ends_it_with_a_sentence_and_ctrl_c_is_no_failure(monkeypatch, jobs):
    monkeypatch.setattr(rival_suite, "run", FakeProcesses(code=1).run)
    unit = Unit(tool=TIMER, is_loaded=False, index=0)
    with pytest.raises(ConfigError, match=r"torch_timer ended with 1, .*\nwhat it said"):
        measure(unit, CELLS, jobs)
    jobs.interrupt.is_asked = True
    with pytest.raises(Interrupted):
        measure(unit, CELLS, jobs)


def test_both_rivals_time_real_cells(monkeypatch, jobs):
    # pytest-benchmark measures nothing in what it takes for a worker of pytest-xdist.
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    asked = [{"name": "0-5", "cell": CELLS[0].to_dict(), "extra": 1}]
    for tool in (PYTEST, TIMER):
        (median_s,) = rival_suite.medians(tool, asked, 0.01, jobs).values()
        assert median_s > 0


def test_a_bunch_makes_as_many_calls_as_it_says():
    calls = []
    rival_suite.repeat(lambda: calls.append(1), 21)
    assert len(calls) == 21
