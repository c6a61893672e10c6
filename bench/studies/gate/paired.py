"""Time the same cell of two source trees in one process, over several fresh forks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.core.cell import Cell
from bench.core.clock import now_s
from bench.measuring.worker.jobs import Jobs
from bench.measuring.worker.results import PAIRED_ROUNDS
from bench.studies.gate.verdict import GateVerdict, Interval, judge, ratio_interval


@dataclass(frozen=True, kw_only=True)
class Effort:
    """Effort that a comparison takes before its verdict.

    Attributes:
        threshold: smallest slowdown that counts as one, as a share: 0.03 is 3 %.
        num_forks: fresh processes that the rounds of a cell are spread over.
        fork_s: seconds of rounds in each.
        min_rounds: fewest rounds in each, however long they take.
        budget_s: wall time after which an undecided cell stays UNSURE.
        min_sample_s: a sample repeats the call until it lasts this long.
    """

    threshold: float = 0.03
    num_forks: int = 6
    fork_s: float = 0.4
    min_rounds: int = 5
    budget_s: float = 15.0
    min_sample_s: float = 0.005


@dataclass(frozen=True, kw_only=True)
class PairedComparison:
    """Current time / base time of one cell.

    Attributes:
        forks: ratios per fork and round.
        interval: None if one of the sides could not be called.
        latency_s: of the current side, one sample, for orientation.
        reason: why there is no interval.
    """

    verdict: GateVerdict
    forks: tuple[tuple[float, ...], ...] = ()
    interval: Interval | None = None
    latency_s: float | None = None
    reason: str | None = None


def compare(
    base: Cell,
    current: Cell,
    base_root: Path,
    jobs: Jobs,
    effort: Effort,
    *,
    tail: float,
    repeat_every: int | None = None,
) -> PairedComparison:
    """Alternate two trees' versions of a cell until a verdict stands or the budget is spent.

    Args:
        base: the cell as the base tree sets its entry.
        current: the cell as this tree sets it.
        base_root: the base tree's folder.
        jobs: runs each request in a fresh fork.
        effort: threshold, forks and budget.
        tail: share left out at each end of the interval, by `confidence_tail`.
        repeat_every: make one call in so many twice, which slows the current side by 1 / this;
            for the self-test.
    """
    started = now_s()
    forks: list[tuple[float, ...]] = []
    latency_s: float | None = None
    while True:
        for _ in range(max(effort.num_forks - len(forks), 2)):
            ratios: list[float] = []
            outcome = jobs.do(
                PAIRED_ROUNDS,
                on_message=lambda message, to=ratios: (
                    to.append(message["ratio"])  # type: ignore[misc]
                    if "ratio" in message
                    else None
                ),
                plugins=current.plugins,
                base=base.to_dict(),
                current=current.to_dict(),
                root=str(base_root),
                repeat_every=repeat_every,
                budget_s=effort.fork_s,
                min_rounds=effort.min_rounds,
                min_sample_s=effort.min_sample_s,
                seed=len(forks),
            )
            if not outcome.is_ok:
                return PairedComparison(verdict=GateVerdict.INCOMPARABLE, reason=outcome.reason)
            forks.append(tuple(ratios))
            latency_s = outcome.found.latency_s
        interval = ratio_interval(forks, tail)
        verdict = judge(interval, effort.threshold)
        if verdict is not GateVerdict.UNSURE or now_s() - started >= effort.budget_s:
            return PairedComparison(
                verdict=verdict,
                forks=tuple(forks),
                interval=interval,
                latency_s=latency_s,
            )
