import math

import pytest

from bench.gate.verdict import Interval, Verdict
from bench.gate.versus import Comparison
from bench.plan import plan
from bench.record import Status
from bench.selftest import ours
from bench.selftest.units import Unit
from bench.worker.jobs import Outcome
from tests.bench.selftest.runs import config

CONFIG = config(seq_len=[64, 128], precision={"seq_len": [32]})
CELLS = [p.cell for p in plan(CONFIG.sweep)]


def test_the_gate_compares_the_tree_with_itself_slowed_down_as_asked(monkeypatch):
    asked = {}

    def compare(base, current, base_root, jobs, effort, *, tail, repeat_every):
        asked.update(base=base, current=current, tail=tail, every=repeat_every, effort=effort)
        interval = Interval(median=1.05004, low=1.04, high=1.06)
        return Comparison(
            verdict=Verdict.SLOWER, forks=((1.04, 1.05, 1.06), (1.1,)), interval=interval
        )

    monkeypatch.setattr(ours, "compare", compare)
    unit = Unit(part="power", is_loaded=False, index=5, repeat_every=20)
    line = ours.ask_the_gate(unit, CELLS, CONFIG, jobs=None)
    assert asked["base"] is asked["current"] is CELLS[5 % len(CELLS)]
    assert asked["every"] == 20 and asked["tail"] == 0.01 and asked["effort"] is CONFIG.effort
    assert line["verdict"] == "SLOWER" and line["median"] == 1.05 and line["forks"] == [1.05, 1.1]


def test_a_comparison_that_failed_keeps_its_reason(monkeypatch):
    failed = Comparison(verdict=Verdict.INCOMPARABLE, reason="the worker was killed")
    monkeypatch.setattr(ours, "compare", lambda *_, **__: failed)
    line = ours.ask_the_gate(Unit(part="alarms", is_loaded=False, index=0), CELLS, CONFIG, None)
    assert line == {
        "cell": "softmax 64",
        "verdict": "incomparable",
        "reason": "the worker was killed",
    }


class Rounds:
    """Jobs whose workers take a written number of rounds, in which softmax takes twice as long."""

    def __init__(self, status=Status.OK):
        self.status = status

    def do(self, job, *, hear, cells, stopping, reference, **_):
        assert job == "rounds" and reference is None
        assert stopping["budget_s"] == CONFIG.precision_budget_s
        assert [cell["seq_len"] for cell in cells] == [32, 32]
        assert cells[0]["mechanism"] == "softmax"
        hear({"step": "warm-up"})
        for number in range(50):
            drift = 1 + 0.5 * math.sin(number)
            hear({"round": [2e-3 * drift, 1e-3 * drift * (1 + 1e-4 * number)]})
        return Outcome(status=self.status, reason="written")


def test_precision_is_of_speed_ups_over_softmax_within_rounds():
    unit = Unit(part="precision", is_loaded=False, index=0)
    line = ours.measure_precision(unit, CELLS, CONFIG, Rounds())
    (cell,) = line["cells"]
    assert (cell["cell"], cell["num_rounds"]) == ("linear 32", 50)
    assert cell["low"] <= cell["median"] <= cell["high"]
    assert cell["median"] == pytest.approx(2.0, rel=0.01)


def test_rounds_that_failed_are_no_number():
    unit = Unit(part="precision", is_loaded=False, index=0)
    with pytest.raises(RuntimeError, match="seq_len=32: crashed: written"):
        ours.measure_precision(unit, CELLS, CONFIG, Rounds(Status.CRASHED))
