"""A member of a block in the rounds: the untimed work around each of its samples."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from bench.core.cell import Cell
from bench.core.clock import cpu_s, now_s
from bench.measuring.building import is_foreign
from bench.measuring.device import Clock, device_named
from bench.measuring.measure.flops import count
from bench.measuring.measure.latency import warm_up
from bench.measuring.measure.state import Watch
from bench.measuring.measure.stopping import Stopping
from bench.measuring.models.oracle import after_rounds
from bench.measuring.models.subject import subject_of
from bench.measuring.oracle.expected import weights_of
from bench.measuring.oracle.oracle import Incorrect
from bench.measuring.oracle.timed import check_timed
from bench.measuring.worker.outcome import refuse

MAX_GAIN = 1.2
"""Largest ratio of a call's time with new values to its time with values it has seen."""

_SLACK_S = 2e-6
_NUM_RENEWALS = 10
_NUM_LOOKS = 5
"""Number of comparisons that must all show a cache: other programs' load rarely does that."""
_NUM_COUNTED = 3
"""Number of calls of which the least work counts: redrawing values now and then is no cache."""

_LAST_ROUND = 2**20
"""A number larger than that of any round."""


class Stopwatch:
    """Adds up the time that is spent outside of samples."""

    def __init__(self) -> None:
        self.spent_s = 0.0
        self._since = now_s()

    def go(self) -> float:
        """Start, because a sample has ended; returns the time now."""
        self._since = now_s()
        return self._since

    def stop(self) -> float:
        """Stop, because a sample begins; returns the time now."""
        now = now_s()
        self.spent_s += now - self._since
        return now


class Turns:
    """One member in the rounds: it is built and warmed up here, and checked after each sample.

    `outside` runs whenever no member is timed; with `sets_threads`, the number of threads is set
    before each sample.

    Raises:
        JobFailed: it has changed state that all members share.
    """

    def __init__(
        self,
        cell: Cell,
        clock: Clock,
        stopping: Stopping,
        watch: Watch,
        outside: Stopwatch,
        *,
        sets_threads: bool,
    ) -> None:
        self.cell = cell
        self._clock = clock
        self._watch = watch
        self._outside = outside
        self._sets_threads = sets_threads
        # An entry may be a member with several numbers of threads; the watch needs unique names.
        self._name = f"{cell.entry} on {cell.num_threads} threads" if sets_threads else cell.entry
        self._busy_s = self._wall_s = self._renewal_s = 0.0
        torch.set_num_threads(cell.num_threads)
        watch.begin(self._name)
        self.subject = subject_of(cell)
        self.subject.rotate()
        self.subject.prepare()
        warmed = warm_up(self.subject.call, clock, stopping.min_sample_s)
        refuse(watch.change(self._name))
        self.member = replace(warmed, prepare=self._begin, settle=self._end)
        # A plugin's call that is compared with the oracle: the last of a round that it cannot know.
        is_compared = is_foreign(cell) and not cell.is_model
        self._compared_round = secrets.randbelow(stopping.min_rounds) if is_compared else None
        self._check_timed: Callable[[], None] = lambda: None
        self._last_out: Any = None

    def renew(self, number: int) -> None:
        """Overwrite the inputs of the next sample with the values of round `number`.

        The state of a decode is made again as long as that has taken less time than the samples.
        """
        whole = self._renewal_s < self._wall_s
        started = now_s()
        self.subject.renew(number, self.member.calls_per_sample, whole=whole)
        if whole:
            self._renewal_s += now_s() - started
        if number == self._compared_round:
            self.member = replace(self.member, call=self._call_and_keep)

    def _call_and_keep(self) -> None:
        self._last_out = None  # each call has the memory of the one before, as in other rounds
        self._last_out = self.subject.call()

    def _begin(self) -> None:
        if self._sets_threads:
            torch.set_num_threads(self.cell.num_threads)
        self._busy_s -= cpu_s()
        self._wall_s -= self._outside.stop()

    def _end(self) -> None:
        self._wall_s += self._outside.go()
        self._busy_s += cpu_s()
        if self.member.call == self._call_and_keep:
            tensors = self.subject.sets[self.subject.rotation.last]
            # The output may be a view of an input, which is overwritten.
            kept = tree_map_only(Tensor, lambda x: x.detach().clone(), (tensors, self._last_out))
            self._check_timed = partial(check_timed, self.subject, weights_of(self.subject), *kept)
            self.member = replace(self.member, call=self.subject.call)
        refuse(self._watch.change(self._name))

    @property
    def calls_per_set(self) -> int:
        """Largest number of calls with the same inputs in a sample."""
        return -(-self.member.calls_per_sample // len(self.subject.sets))

    @property
    def cpu_per_wall(self) -> float | None:
        """CPU time of the process over wall time, of all samples; None unless on one CPU thread.

        None also beside members with several: torch's threads spin while they wait for work.
        """
        has_several = self.cell.num_threads > 1 or self._sets_threads
        if has_several or not device_named(self.cell.device).shares_cores or not self._wall_s:
            return None
        return round(self._busy_s / self._wall_s, 3)

    def why_wrong(self) -> str | None:
        """Fault found once all samples are taken, as a sentence; None if there is none."""
        torch.set_num_threads(self.cell.num_threads)
        if self.calls_per_set > 1 and (how := self._detect_caching()):
            return f"it is faster on repeated inputs: it caches results: {how}"
        try:
            after_rounds(self.cell, self.subject)
            self._check_timed()
        except Incorrect as error:
            return str(error)
        return None

    def _detect_caching(self) -> str | None:
        """Evidence that a call is faster on inputs it has seen, from its work or its time."""
        if self.cell.timed.compile == "eager":
            new, seen = self._work_new_and_seen()
            if new > seen:
                return f"a call with new ones computes {new:,} elements and FLOPs, else {seen:,}"
        for _ in range(_NUM_LOOKS):
            new_s, seen_s = self._time_new_and_seen()
            if new_s <= max(MAX_GAIN * seen_s, seen_s + _SLACK_S):
                return None
        return f"a call with new ones takes {new_s / seen_s:.1f} times as long"

    def _time_new_and_seen(self) -> tuple[float, float]:
        """Seconds of a call with new values and of one with seen values, each the least of 10.

        Both follow a copy and a call on another input set, so that the processor's caches are in
        the same state.
        """
        return self._least_new_and_seen(
            _NUM_RENEWALS, lambda: self._clock.time_calls(self.subject.call, 1)
        )

    def _work_new_and_seen(self) -> tuple[float, float]:
        """As `_time_new_and_seen`, but elements and FLOPs of a call, which no load disturbs."""

        def work() -> float:
            counts = count(self.subject.call)
            return counts.counted_flops + counts.elementwise_elements

        return self._least_new_and_seen(_NUM_COUNTED, work)

    def _least_new_and_seen(
        self, num_renewals: int, look: Callable[[], float]
    ) -> tuple[float, float]:
        new: list[float] = []
        seen: list[float] = []
        num_others = len(self.subject.sets) - 1  # 0 if inputs are too large for a cache
        num_before = min(1, num_others)
        for number in range(0, 2 * num_renewals, 2):
            for is_new, found in ((1, new), (0, seen)):
                place = _LAST_ROUND + number + is_new
                self.subject.renew(place, num_before + is_new, whole=False)
                for _ in range(num_before):
                    self.subject.call()
                found.append(look())
                for _ in range(num_others - num_before):
                    self.subject.call()
        return min(new), min(seen)
