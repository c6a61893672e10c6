"""Summarise trials: shares of verdicts, widths of intervals, and goals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from bench.core.grouping import grouped
from bench.core.statistics import median
from bench.studies.gate.verdict import GateVerdict
from bench.studies.selftest.trials import GATE, Trial

MAX_FALSE_ALARMS = 0.01
MIN_POWER = 0.95
SURELY_FOUND_LOADED = 10
"""The smallest slowdown, in per cent, that the gate has to find next to a load."""

QUIET_CORES = 1.25
"""Most busy cores of a machine that counts as idle, the measured call's own included."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """A number of hits among trials."""

    hits: int
    trials: int

    @cached_property
    def interval(self) -> tuple[float, float]:
        """Exact 95 % interval of the share: Clopper and Pearson, Biometrika 26 (1934), 404."""
        from scipy import stats

        found = stats.binomtest(self.hits, self.trials).proportion_ci(0.95, method="exact")
        return float(found.low), float(found.high)

    def __str__(self) -> str:
        """As ``2 of 300 = 0.7 % [0.1, 2.4]``."""
        low, high = (100 * end for end in self.interval)
        share = 100 * self.hits / self.trials
        return f"{self.hits} of {self.trials} = {share:.1f} % [{low:.1f}, {high:.1f}]"


@dataclass(frozen=True, kw_only=True)
class Series:
    """The trials of one tool, one machine state and one slowdown."""

    tool: str
    is_loaded: bool
    percent: int
    trials: tuple[Trial, ...]

    @property
    def slower(self) -> Share:
        """Share of trials that fail a commit: false alarms, or slowdowns that were found."""
        return Share(hits=self.count(GateVerdict.SLOWER), trials=len(self.trials))

    def count(self, verdict: GateVerdict) -> int:
        """Number of trials that ended with a verdict."""
        return sum(trial.row.verdict is verdict for trial in self.trials)

    @property
    def ratios(self) -> list[float]:
        """Current over base, for the trials that have a ratio."""
        return [trial.row.ratio for trial in self.trials if trial.row.ratio is not None]

    @property
    def worst_error(self) -> float:
        """The largest relative error of a ratio, either way."""
        true = 1 + self.percent / 100
        return max((abs(ratio / true - 1) for ratio in self.ratios), default=0.0)

    @property
    def half_width(self) -> float | None:
        """Median half-width of the intervals, relative to the ratio; None if there are none."""
        rows = [trial.row for trial in self.trials]
        return median(
            [(r.high - r.low) / 2 / r.ratio for r in rows if r.low and r.high and r.ratio]
        )


def series_of(trials: Sequence[Trial]) -> tuple[Series, ...]:
    """All series, in the order in which they first appear."""
    groups = grouped(trials, lambda trial: (trial.tool, trial.is_loaded, trial.percent))
    return tuple(
        Series(tool=tool, is_loaded=is_loaded, percent=percent, trials=tuple(found))
        for (tool, is_loaded, percent), found in groups.items()
    )


def goals_of(trials: Sequence[Trial]) -> Iterator[dict[str, str]]:
    """Goals of the gate as rows of a table: ``goal`` in words, what was ``found``, and ``verdict``.

    The verdict is ``met`` if the whole interval meets the goal, and ``missed`` if nothing in it
    does; else ``not met``: the trials are too few to show it.
    """
    of_gate = [series for series in series_of(trials) if series.tool == GATE]
    unchanged = [series.slower for series in of_gate if not series.percent]
    if unchanged:
        alarms = Share(
            hits=sum(share.hits for share in unchanged),
            trials=sum(share.trials for share in unchanged),
        )
        words = f"at most {100 * MAX_FALSE_ALARMS:g} % false alarms, idle and next to a load"
        yield _goal(words, alarms, lambda share: share <= MAX_FALSE_ALARMS)
    for series in sorted(of_gate, key=lambda s: (s.is_loaded, s.percent)):
        if series.percent and (not series.is_loaded or series.percent >= SURELY_FOUND_LOADED):
            place = "next to a load" if series.is_loaded else "idle"
            words = f"{series.percent} % slower is found {100 * MIN_POWER:g} times in 100, {place}"
            yield _goal(words, series.slower, lambda share: share >= MIN_POWER)


def _goal(words: str, share: Share, holds: Callable[[float], bool]) -> dict[str, str]:
    held = [holds(end) for end in share.interval]
    verdict = "met" if all(held) else "not met" if any(held) else "missed"
    return {"goal": words, "found": str(share), "verdict": verdict}
