"""What becomes of the rounds of a block, whoever took them."""

from types import SimpleNamespace

import pytest

from bench.core.record import Status
from bench.measuring.run import Runner
from bench.measuring.worker.block import Rounds
from bench.measuring.worker.outcome import Outcome
from tests.bench.measuring.test_config import BASE
from tests.bench.measuring.worker.fakes import cell, found
from tests.bench.studies.gate.fakes import TRIAL

TRIALS = [(cell(entry=name), Outcome(status=Status.OK, result=TRIAL)) for name in ("a", "b")]


def rounds(samples=(1.0, 0.1), references=(1, None), **changes):
    return Rounds(
        samples=[list(samples)] * 6,
        processes=[0] * 6,
        references=list(references),
        outcome=Outcome(status=Status.OK, result=found(**changes), wall_s=4.0),
    )


def noisy(cores):
    return rounds(samples=(cores, 0.1), load={"foreign_cores": cores}, is_noisy=cores > 0.25)


@pytest.fixture
def timed(monkeypatch):
    """Records of a block, by entry, whose rounds come out as they are written."""
    from bench.measuring.config import read_sweep_config

    runner = Runner.__new__(Runner)
    runner._config = read_sweep_config(BASE)
    runner._roofs = None
    runner._jobs = SimpleNamespace(interrupt=SimpleNamespace(is_asked=False))
    runner._listener = SimpleNamespace(announce=lambda words: None)
    monkeypatch.setattr(
        runner,
        "_record",
        lambda cell, outcome, result=None, **rest: (cell.entry, outcome, result),
        raising=False,
    )

    def time(*written):
        coming = iter(written)
        runner._do_rounds = lambda *words: next(coming)
        kept = runner._time(TRIALS, {}, "now")
        return {entry: (outcome, result) for entry, outcome, result in kept}

    return time


@pytest.mark.parametrize("loads", [(0.9, 0.5), (0.5, 0.9), (0.9, 0.1)])
def test_noisy_rounds_are_taken_again_and_the_quieter_are_kept(timed, loads):
    _, speed = timed(*map(noisy, loads))["a"]
    assert speed.load["foreign_cores"] == min(loads) == speed.latency_s[0]
    assert speed.is_noisy == (min(loads) > 0.25)


def test_quiet_rounds_are_taken_once(timed):
    assert timed(noisy(0.0))["a"][1].is_noisy is False


def test_a_member_that_was_wrong_after_the_rounds_has_no_number_and_its_neighbour_keeps_its_own(
    timed,
):
    records = timed(rounds(wrong=(None, "off by 3"), references=(None, None)))
    outcome, speed = records["b"]
    assert (outcome.status, outcome.reason, speed) == (Status.INCORRECT, "off by 3", None)
    outcome, speed = records["a"]
    assert outcome.is_ok and speed.latency_s == (1.0,) * 6 and speed.reference_latency_s == ()


def test_how_a_member_was_timed_is_in_its_record(timed):
    _, speed = timed(rounds())["b"]
    assert (speed.calls_per_sample, speed.calls_per_set, speed.cpu_per_wall) == (10, 3, None)
