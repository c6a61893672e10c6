"""Rounds of a block become records, whoever took them."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from bench.core.record import Speed, Status
from bench.measuring.plan import reference_cell
from bench.measuring.run import Runner
from bench.measuring.worker.block import Rounds
from bench.measuring.worker.jobs import Interrupted
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
    started = set()

    def record(cell, outcome, result=None, *, started_at, measured_s=None):
        started.add(started_at)
        time.costs_s = outcome.wall_s, measured_s
        return cell.entry, outcome, result

    monkeypatch.setattr(runner, "_record", record, raising=False)

    def time(*written):
        coming = iter(written)
        runner._do_rounds = lambda *words: next(coming)
        kept = [*runner._time(TRIALS, {}, "now")]
        assert started == {"now"}, "the block began with its trials"
        return {entry: (outcome, result) for entry, outcome, result in kept}

    time.runner = runner
    return time


@pytest.mark.parametrize("loads", [(0.9, 0.5), (0.5, 0.9), (0.9, 0.1)])
def test_noisy_rounds_are_taken_again_and_the_quieter_are_kept(timed, loads):
    _, speed = timed(*map(noisy, loads))["a"]
    assert speed.load["foreign_cores"] == min(loads) == speed.latency_s[0]
    assert speed.is_noisy == (min(loads) > 0.25)


def test_quiet_rounds_are_kept_if_the_hypervisor_alone_disturbed_those_before(timed):
    stolen = rounds(load={"foreign_cores": 0.0, "steal_share": 0.2}, is_noisy=True)
    _, speed = timed(stolen, noisy(0.2))["a"]
    assert not speed.is_noisy and speed.latency_s[0] == 0.2


FAILED = replace(rounds(), outcome=Outcome(status=Status.CRASHED, reason="killed"))


def test_members_of_failed_rounds_are_timed_one_by_one(timed):
    records = timed(FAILED, noisy(0.1), FAILED)
    assert records["a"][1].latency_s[0] == 0.1 and records["b"][0].reason == "killed"


def test_a_member_that_was_wrong_after_the_rounds_has_no_number_and_its_neighbour_keeps_its_own(
    timed,
):
    records = timed(rounds(wrong=(None, "off by 3"), references=(None, None)))
    outcome, speed = records["b"]
    assert (outcome.status, outcome.reason, speed) == (Status.INCORRECT, "off by 3", None)
    outcome, speed = records["a"]
    assert outcome.is_ok and speed.latency_s == (1.0,) * 6 and speed.reference_latency_s == ()


def test_how_a_member_was_timed_is_in_its_record(timed):
    ceiling = {"flops_per_s": 1.0, "bytes_per_s": [[1000, 2.0]], "is_noisy": False}
    timed.runner._roofs = SimpleNamespace(of=lambda cell: ceiling)
    (_, beside), (_, speed) = timed(rounds()).values()
    reference = reference_cell(TRIALS[0][0])
    assert (speed.reference, speed.reference_key) == ("softmax", reference.key)
    assert speed.ceiling == ceiling
    assert isinstance(speed, Speed) and speed.rounds_key == beside.rounds_key == "9f032ec2ddd2f603"
    assert (beside.reference_latency_s, speed.warmup_s) == (speed.latency_s, (0.25,))
    assert beside.order_seed == speed.order_seed == int(TRIALS[0][0].block, 16) % 1_000_000
    assert speed.rounds == (0, 1, 2, 3, 4, 5) and speed.processes == ()
    assert (speed.calls_per_sample, speed.calls_per_set, speed.cpu_per_wall) == (10, 3, None)
    # Its trial took no wall time and 0.5 s of calls; the rounds of both members 4 s and 1 s.
    assert timed.costs_s == (4.0 / 2, 0.5 + 1.0 / 2)


def test_a_stop_in_the_rounds_leaves_noisy_ones_as_they_are_and_ends_the_block(timed):
    timed.runner._jobs.interrupt.is_asked = True
    with pytest.raises(Interrupted):
        timed(noisy(0.9))
