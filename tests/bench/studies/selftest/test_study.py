"""The command on trials that cost nothing; and, slowly, a short run of the real thing."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.core.cli.errors import ConfigError
from bench.core.lines import Lines
from bench.measuring.plan import plan
from bench.measuring.worker.jobs import Interrupt, Interrupted, Jobs
from bench.measuring.worker.launch import WorkerServer
from bench.publishing.document import markdown
from bench.studies.gate.commits import PairedComparison
from bench.studies.gate.rows import GateVerdict, Interval
from bench.studies.selftest import rival_suite, study
from bench.studies.selftest.page import GATE, page_of
from bench.studies.selftest.rival_suite import BUNCH, PYTEST, TIMER
from bench.studies.selftest.study import Unit, measure, units
from bench.studies.session import Session
from tests.bench.studies.selftest.made_up import config, origin, sweep, trial

ROOT = Path(__file__).resolve().parents[4]


class FakeNeighbour:
    is_on = False

    def __enter__(self):
        FakeNeighbour.is_on = True

    def __exit__(self, *_):
        FakeNeighbour.is_on = False


class FakeServer:
    def start(self):
        pass


def data_file(path):
    return Lines[study.Line](path, study.Line, mend=study.MEND)


SWEEP = SimpleNamespace(run=SimpleNamespace(timeout_s=1.0))


@pytest.fixture
def session(monkeypatch):
    monkeypatch.setattr(Session, "server", lambda self, config: FakeServer())
    return Session("selftest", {})


@pytest.fixture
def run(monkeypatch, tmp_path, session):
    """Make two trials of each kind; returns whether it was stopped, and the trials on the disk."""
    monkeypatch.setattr(study, "neighbour", FakeNeighbour)
    file = data_file(tmp_path / "run.jsonl")
    file.append(origin())

    def call(stop_at=None, **changes):
        made = []

        def measure(unit, *_):
            if len(made) == stop_at:
                raise Interrupted
            made.append(unit)
            assert FakeNeighbour.is_on is unit.is_loaded
            return [trial(tool=unit.tool, is_loaded=unit.is_loaded, percent=unit.percent)]

        monkeypatch.setattr(study, "measure", measure)
        trials = {"unchanged": 4, "slowdown": 2, "rivals": 2}
        study.run(config(trials=trials, **changes), SWEEP, (), file, session)
        return session.is_stopped, file.read()[1:]

    return call


def test_every_trial_is_made_under_its_load_and_written_down(run):
    stopped, trials = run()
    assert not stopped and len(trials) == 2 * 2 * 4 + 2 * 2
    assert not FakeNeighbour.is_on


def test_ctrl_c_keeps_what_there_is(run):
    assert run(stop_at=3) == (True, [trial(), trial(percent=5), trial(percent=10)])


def test_nothing_is_begun_that_would_not_end_in_time(run):
    assert run(budget="1s") == (False, [])


def test_the_newest_data_makes_the_page_and_the_exit_code(tmp_path, session):
    out, page = tmp_path / "out", tmp_path / "page.md"
    asked = config(out=str(out), page=str(page), report=True)
    with pytest.raises(ConfigError, match="make selftest"):
        study.study(asked, session)
    data_file(out / "1.jsonl").append(origin(), *[trial(GateVerdict.SLOWER)] * 10)
    assert study.study(asked, session) == 1
    data_file(out / "2.jsonl").append(origin(), *[trial(GateVerdict.SAME)] * 10)
    assert study.study(asked, session) == 0
    assert "results/selftest/2.jsonl" in page.read_text()
    (out / "3.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match=r"3\.jsonl:1 is no Origin or Trial: .*Move it away\."):
        study.study(asked, session)


def test_the_stored_trials_make_the_stored_page():
    (stored,) = (ROOT / "results" / "selftest").glob("*.jsonl")
    first, *trials = data_file(stored).read()
    page = markdown(page_of(stored.name, first, trials))
    assert page == (ROOT / "docs" / "selftest.md").read_text()


SHORT = [
    "attention=[softmax,linear]",
    "seq_len=[64]",
    "trials={unchanged: 2, slowdown: 1, rivals: 1}",
]


def start(folder, *words):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    environment.pop("ATTNBENCH_SWEEP", None)
    return subprocess.Popen(
        [sys.executable, "-m", "bench.selftest", *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_a_short_run_goes_from_the_command_line_to_the_page(tmp_path):
    done = start(tmp_path, *SHORT)
    words = done.communicate(timeout=280)[0]
    assert done.returncode in (0, 1), words  # one trial meets or misses the goals by chance
    page = (tmp_path / "docs" / "selftest.md").read_text()
    assert "24 trials" in page and "torch.utils.benchmark, next to a load" in page
    again = start(tmp_path, "report=true")
    assert again.communicate(timeout=60) and again.returncode == done.returncode
    assert (tmp_path / "docs" / "selftest.md").read_text() == page


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

    monkeypatch.setattr(study, "compare", compare)
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


@pytest.mark.slow
def test_both_rivals_time_real_cells(monkeypatch, jobs):
    # pytest-benchmark measures nothing in what it takes for a worker of pytest-xdist.
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    asked = [{"name": "0-5", "cell": CELLS[0].to_dict(), "extra": 1}]
    for tool in (PYTEST, TIMER):
        (median_s,) = rival_suite.medians(tool, asked, 0.01, jobs).values()
        assert median_s > 0
