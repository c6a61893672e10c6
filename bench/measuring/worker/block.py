"""The rounds of a block as the parent sees them: samples, and a check of the worker's clock."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from bench.core.cell import Cell
from bench.core.clock import now_s
from bench.core.facts import FRESH
from bench.core.record import Speed, Status
from bench.measuring.building import is_foreign
from bench.measuring.device import device_named
from bench.measuring.measure.stopping import Stopping
from bench.measuring.worker.jobs import Interrupted, Jobs
from bench.measuring.worker.launch import WorkerHung
from bench.measuring.worker.messages import NoMessage
from bench.measuring.worker.outcome import Outcome
from bench.measuring.worker.results import (
    ROUNDS,
    ROUNDS_BEGIN,
    ROUNDS_END,
    RoundsResult,
    TrialResult,
    digest_of,
    timed_s,
)

MAX_APART = 0.2
"""Largest difference between the worker's time and the parent's, as a share of the latter."""

_STOPS = ("interrupted", "budget", "rounds", "precise")
"""Reasons to stop; where processes had several, the first of these is that of all together."""

_LEAST_S, _MOST_S = 1e-12, 1e9
"""Smallest and largest number of seconds per call that a record can hold."""

_LAUNCH_S = 1e-4
"""Seconds that a card and its driver may need around each reading of the card's clock."""


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """The samples of one block.

    Attributes:
        samples: seconds per call, one list per round, one entry per column.
        processes: number of the process of each round.
        references: for each column, the column of its reference; None without one.
        outcome: outcome of the worker; of several, the one that failed, else that of the most
            disturbed rounds.
    """

    samples: list[list[float]]
    processes: list[int]
    references: list[int | None]
    outcome: Outcome[RoundsResult]

    @property
    def disturbance(self) -> tuple[bool, float]:
        """How much others disturbed the rounds: more compares as larger, failed rounds as most."""
        return _disturbance(self.outcome)

    def speed(self, column: int, trial: TrialResult, seed: int) -> Speed:
        """Observations of a member's trial and these rounds; the reference is set later."""
        shared = self.outcome.found
        numbers = tuple(range(len(self.samples)))
        yardstick = self.references[column]
        is_one_process = len(set(self.processes)) == 1
        return Speed(
            latency_s=tuple(samples[column] for samples in self.samples),
            rounds=numbers,
            processes=() if is_one_process else tuple(self.processes),
            rounds_key=digest_of(self.samples),
            reference_latency_s=(
                () if yardstick is None else tuple(samples[yardstick] for samples in self.samples)
            ),
            reference_rounds=() if yardstick is None else numbers,
            calls_per_sample=shared.calls_per_sample[column],
            calls_per_set=shared.calls_per_set[column],
            cpu_per_wall=shared.cpu_per_wall[column],
            warmup_s=shared.warmup_s[column],
            order_seed=seed,
            stop_reason=shared.stop_reason,
            load=shared.load,
            is_noisy=shared.is_noisy,
            **trial.observed(),
        )


def time_block(
    jobs: Jobs,
    columns: Sequence[Cell],
    references: Sequence[int | None],
    stopping: Stopping,
    seed: int,
    say: Callable[[str], None],
) -> Rounds:
    """Time cells in interleaved rounds, spread over as many processes as `stopping` says.

    `references` has for each column that of its reference, None without one. A worker that takes
    far longer than `stopping` says is killed.
    """
    samples: list[list[float]] = []
    processes: list[int] = []
    shared_s: list[float] = []
    outcomes: list[Outcome[RoundsResult]] = []
    ours = [n for n in references if n is not None and not is_foreign(columns[n])]
    is_watched = bool(ours) and any(map(is_foreign, columns))
    fresh_s = [_fresh_s(jobs, columns[ours[0]], stopping)] if is_watched else []
    for process in range(stopping.num_processes):
        if process:
            say(f"timing again: process {process + 1} of {stopping.num_processes}")
        heard = RoundsListener(columns, stopping.of_one_process, jobs.timeout_s)
        before = len(samples)
        outcome = jobs.do(
            ROUNDS,
            on_message=heard,
            # Fewer rounds than this give no interval, and are not worth keeping.
            may_stop=lambda heard=heard, before=before: (  # type: ignore[misc]
                before + len(heard.samples) >= stopping.min_rounds
            ),
            plugins=columns[0].plugins,
            cells=[cell.to_dict() for cell in columns],
            references=list(references),
            stopping=asdict(stopping.of_one_process),
            order_seed=seed + process,
        )
        samples += heard.samples
        processes += [process] * len(heard.samples)
        outcomes.append(heard.validated(outcome))
        if outcomes[-1].is_ok and is_watched and not jobs.interrupt.is_asked:
            fresh_s.append(_fresh_s(jobs, columns[ours[0]], stopping))
            shared_s.append(min(samples[ours[0]] for samples in heard.samples))
        if not outcomes[-1].is_ok or jobs.interrupt.is_asked:
            break
    together = _together(outcomes)
    if together.is_ok and (ratio := _over_fresh(shared_s, fresh_s)) is not None:
        load = together.found.load | {FRESH: ratio}
        together = replace(together, result=replace(together.found, load=load))
    wrong = together.found.wrong if together.is_ok else (None,) * len(columns)
    return Rounds(
        samples=samples,
        processes=processes,
        references=[None if r is None or wrong[r] is not None else r for r in references],
        outcome=together,
    )


def _fresh_s(jobs: Jobs, reference: Cell, stopping: Stopping) -> float | None:
    """Least seconds per call in a process without plugins; None if that is interrupted or fails."""
    few = replace(stopping, budget_s=0.0, num_processes=1)
    with suppress(Interrupted):
        alone = replace(reference, plugins=())
        fresh = time_block(jobs, [alone], [None], few, 0, lambda words: None)
        if fresh.outcome.is_ok:
            # Other programs slow some rounds, and hardly the fastest one.
            return min(seconds for (seconds,) in fresh.samples)
    return None


def _over_fresh(shared_s: Sequence[float], fresh_s: Sequence[float | None]) -> float | None:
    """Largest change of a reference by its block, as a ratio to fresh processes; None if unknown.

    Fresh processes and those of the block take turns; of the fresh ones before and after, the
    nearer counts, so that a machine that changes its pace is no change by a plugin.
    """
    turns = zip(shared_s, itertools.pairwise(fresh_s), strict=False)
    ratios = [[shared / fresh for fresh in both if fresh] for shared, both in turns]
    return max((min(each, key=_apart) for each in ratios if each), key=_apart, default=None)


def _apart(ratio: float) -> float:
    return abs(math.log(ratio))


class RoundsListener:
    """Rounds reported by one worker, compared with the parent's own clock.

    At the beginning and at the end, the worker sends a message and waits for a reply; the parent
    reads its clock in between. The time between the two readings is at most the worker's time
    including these waits, and at least its time without them, whatever the delay of messages.
    """

    def __init__(self, columns: Sequence[Cell], stopping: Stopping, timeout_s: float) -> None:
        self.samples: list[list[float]] = []
        self._stopping = stopping
        self._num_members = len(columns)
        self._max_rounds = max(stopping.min_rounds, stopping.max_rounds)
        self._is_cold = columns[0].timed.cache == "cold"
        self._is_card = not device_named(columns[0].device).shares_cores
        self._budget_s = stopping.budget_s * len(columns) + timeout_s
        self._begun = self._ended = now_s()
        self._limit_s = math.inf

    def __call__(self, message: dict[str, Any]) -> None:
        """Take a message.

        Raises:
            WorkerHung: the rounds exceed their time limit.
            NoMessage: a round does not have one sample of each member, or is one too many.
        """
        if message.get("step") == ROUNDS_BEGIN:
            self._begun = now_s()
        if message.get("step") == ROUNDS_END:
            self._ended = now_s()
        if "round" not in message:
            return
        if len(message["round"]) != self._num_members:
            raise NoMessage(f"a round of {len(message['round'])} of {self._num_members} samples")
        if len(self.samples) == self._max_rounds:
            raise NoMessage(f"it is one more than {self._max_rounds:,} rounds")
        self.samples.append(message["round"])
        took_s = now_s() - self._begun
        if len(self.samples) == 1:  # the budget, and twice the time of the fewest rounds
            self._limit_s = self._budget_s + 2 * self._stopping.min_rounds * took_s
        if took_s > self._limit_s:
            raise WorkerHung(f"the rounds did not end within {self._limit_s:.0f} s")

    def validated(self, outcome: Outcome[RoundsResult]) -> Outcome[RoundsResult]:
        """The outcome itself, or an error if the worker's times contradict the parent's clock."""
        if not outcome.is_ok:
            return outcome
        taken = list(itertools.chain(*self.samples))
        found = outcome.found
        is_whole = found.num_members == self._num_members and "foreign_cores" in found.load
        if not taken or not is_whole:
            reason = str(NoMessage(f"rounds of {found.num_members} members, {len(taken)} samples"))
            return Outcome(status=Status.CRASHED, reason=reason, wall_s=outcome.wall_s)
        told_s = found.outside_s + timed_s(self.samples, found.calls_per_sample)
        wall_s = self._ended - self._begun
        too_short = (1 - MAX_APART) * wall_s - self._unseen_s(found.calls_per_sample)
        if found.digest != digest_of(self.samples):
            reason = (
                f"{len(self.samples)} rounds arrived, and they are not the {found.num_rounds} that "
                "were timed: a mechanism wrote to the worker's socket"
            )
        elif no_time := [seconds for seconds in taken if not _LEAST_S <= seconds <= _MOST_S]:
            reason = f"a sample of the rounds lasted {no_time[0]:g} s by the worker's clock"
        elif too_short <= told_s and told_s - found.waited_s <= (1 + MAX_APART) * wall_s:
            return outcome
        else:
            reason = (
                f"the rounds lasted {wall_s:.3g} s, and {told_s:.3g} s by the worker's own account:"
                " its clock, or what it times, was tampered with"
            )
        return Outcome(status=Status.ERROR, reason=reason, wall_s=outcome.wall_s)

    def _unseen_s(self, calls_per_sample: Sequence[int]) -> float:
        """Seconds that a card's clock may have missed; with cold caches it is read at each call."""
        num_readings = sum(calls_per_sample) if self._is_cold else len(calls_per_sample)
        return self._is_card * _LAUNCH_S * num_readings * len(self.samples)


def _disturbance(outcome: Outcome[RoundsResult]) -> tuple[bool, float]:
    """Sort key: too noisy or not, by the hypervisor too; then cores that others kept busy."""
    if not outcome.is_ok:
        return True, math.inf
    return outcome.found.is_noisy, outcome.found.load["foreign_cores"]


def _together(outcomes: Sequence[Outcome[RoundsResult]]) -> Outcome[RoundsResult]:
    """Merge the outcomes of the workers that shared a block's rounds, keeping the worst."""
    worst = max(outcomes, key=_disturbance)
    wall_s = sum(outcome.wall_s for outcome in outcomes)
    if not worst.is_ok:
        return replace(worst, wall_s=wall_s)
    found = [outcome.found for outcome in outcomes]
    warmups = zip(*(each.warmup_s for each in found), strict=True)
    wrong = zip(*(each.wrong for each in found), strict=True)
    stops = {each.stop_reason for each in found}
    result = replace(
        worst.found,
        stop_reason=next(reason for reason in _STOPS if reason in stops),
        warmup_s=tuple(tuple(itertools.chain(*of_member)) for of_member in warmups),
        calls_per_sample=found[0].calls_per_sample,
        calls_per_set=found[0].calls_per_set,
        wrong=tuple(next(filter(None, of_member), None) for of_member in wrong),
        measured_s=sum(each.measured_s for each in found),
    )
    return replace(worst, result=result, wall_s=wall_s)
