"""Compare this source tree with another commit, cell by cell, in one process."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from attentions.catalogue import registered_names
from bench.core.cell import Cell
from bench.core.cli.command import read_yaml
from bench.core.cli.errors import ConfigError
from bench.core.clock import now_s
from bench.core.format import format_duration
from bench.core.places import CHECKOUT
from bench.core.rows import settings_of
from bench.measuring.sharing.devices import alone_on
from bench.measuring.worker.jobs import Jobs
from bench.measuring.worker.outcome import Outcome
from bench.measuring.worker.results import PAIRED_ROUNDS, TRAIN, TRIAL, TrainResult, TrialResult
from bench.studies.gate.rows import (
    GateRow,
    GateVerdict,
    Interval,
    by_channel,
    channel_of,
    confidence_tail,
    exact_rows,
    judge,
    ratio_interval,
)

MEASURED = ("attentions", "conf/attention")
"""Parts that the gate takes from each tree: the mechanisms, and how their entries are set."""

_GIT_TIMEOUT_S = 120
_PREFIX = "attnbench-base-"
"""Prefix of a temporary folder's name, before the number of its process."""


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A source tree that can be measured.

    Attributes:
        root: its folder.
        commit: full hash; for the working tree, of the commit that it is based on.
        is_dirty: whether tracked files under `MEASURED` differ from that commit.
    """

    root: Path
    commit: str
    is_dirty: bool


def current_tree() -> Tree:
    """The tree that this code runs from.

    Raises:
        ConfigError: it is not a git checkout.
    """
    _check_checkout()
    commit = _git("rev-parse", "HEAD")
    # Untracked files do not count: they are part of no commit yet.
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", *MEASURED)
    return Tree(root=CHECKOUT, commit=commit, is_dirty=bool(changed))


def _check_checkout() -> None:
    """Refuse a copy outside of git, and one that lies inside of somebody else's checkout."""
    _git("--version")
    try:
        is_ours = _git("ls-files", "attentions/__init__.py") != ""
    except ConfigError as error:
        raise ConfigError(
            f"Commits are compared in a git checkout, and {CHECKOUT} is none that git can read: "
            f"{error} Clone the repository, or compare stored numbers with baseline=."
        ) from error
    if not is_ours:
        raise ConfigError(
            f"Commits are compared in a git checkout, and {CHECKOUT} is not tracked by one. Clone "
            "the repository, or compare stored numbers with baseline=."
        )


def resolve(reference: str) -> str:
    """The full hash of a commit.

    Raises:
        ConfigError: git does not know it.
    """
    try:
        return _git("rev-parse", "--verify", "--quiet", f"{reference}^{{commit}}")
    except ConfigError as error:
        names = _git("for-each-ref", "--format=%(refname:short)").split()[:8]
        raise ConfigError(
            f"base={reference} is not a commit that git knows here. Give a branch, tag or hash, "
            f"e.g. {', '.join(['HEAD~1', *names])}."
        ) from error


def default_base() -> str:
    """The merge base with ``origin/main``; ``HEAD~1`` if that is HEAD itself or does not exist.

    Raises:
        ConfigError: there is no earlier commit.
    """
    with contextlib.suppress(ConfigError):
        base = _git("merge-base", "HEAD", "origin/main")
        if base != _git("rev-parse", "HEAD"):
            return base
    try:
        return resolve("HEAD~1")
    except ConfigError as error:
        raise ConfigError(
            "There is no earlier commit to compare with. Name one with base=REF."
        ) from error


@contextlib.contextmanager
def worktree(commit: str) -> Iterator[Tree]:
    """Check a commit out into a temporary folder, which is removed afterwards in any case.

    The folder of a process that was killed is removed by the next comparison.
    """
    _remove_left_behind()
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    try:
        _git("worktree", "add", "--detach", "--force", str(folder / "tree"), commit)
        yield Tree(root=folder / "tree", commit=commit, is_dirty=False)
    finally:
        _remove(folder)


def _remove_left_behind() -> None:
    """Remove worktrees of this checkout whose process was killed before it could."""
    for line in _git("worktree", "list", "--porcelain").splitlines():
        folder = Path(line.removeprefix("worktree ")).parent
        owner = re.match(rf"{_PREFIX}(\d+)-", folder.name)
        if line.startswith("worktree ") and owner and not _is_alive(int(owner[1])):
            _remove(folder)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _remove(folder: Path) -> None:
    with contextlib.suppress(ConfigError):
        _git("worktree", "remove", "--force", str(folder / "tree"))
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(ConfigError):
        _git("worktree", "prune")


def _git(*words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(CHECKOUT), *words],
            capture_output=True,
            text=True,
            timeout=_GIT_TIMEOUT_S,
        )
    except FileNotFoundError as error:
        raise ConfigError("git is not installed; a comparison of commits needs it.") from error
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"git {words[0]} took longer than {_GIT_TIMEOUT_S} s.") from error
    if done.returncode != 0:
        words_of_git = done.stderr.strip().splitlines()
        because = words_of_git[-1] if words_of_git else f"exit code {done.returncode}"
        raise ConfigError(f"git {words[0]} failed in {CHECKOUT}: {because}")
    return done.stdout.strip()


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
        interval: None if one of the sides could not be called.
        latency_s: of the current side, one sample, for orientation.
        reason: why there is no interval.
    """

    verdict: GateVerdict
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
            return PairedComparison(verdict=verdict, interval=interval, latency_s=latency_s)


def compare_commits(
    cells: Sequence[Cell],
    base: Tree,
    jobs: Jobs,
    effort: Effort,
    family_error: float,
    say: Callable[[str], None],
) -> Iterator[GateRow]:
    """Rows of all cells; of each cell, numbers without noise first, then its time.

    The family-wise error is divided among the cells that are timed.
    """
    tail = confidence_tail(max(1, sum(not cell.is_task for cell in cells)), family_error)
    started = now_s()
    for done, cell in enumerate(cells):
        left_s = (now_s() - started) / done * (len(cells) - done) if done else None
        left = "" if left_s is None else f", {format_duration(left_s)} left"
        entry = base_entry(base, cell.entry)
        if entry is None:
            reason = f"the base has no entry {cell.entry}"
            yield GateRow.of(cell, channel_of(cell), GateVerdict.NEW, reason=reason)
            continue
        with nullcontext() if cell.is_task else alone_on(cell.device, jobs.interrupt.pause, say):
            say(f"[{done + 1}/{len(cells)}{left}] {cell.describe()}")
            yield from _compare_cell(cell, _as_in_base(cell, entry), base, jobs, effort, tail)


def base_entry(base: Tree, label: str) -> dict[str, Any] | None:
    """An entry as the base tree defines it; None if it has no such entry.

    Hyperparameters that its YAML leaves out (all of them if it has no YAML) are the defaults of the
    base's constructor.
    """
    file = base.root / "conf" / "attention" / f"{label}.yaml"
    if not os.path.exists(file):
        return {"mechanism": label} if label in registered_names(base.root / "attentions") else None
    entry = read_yaml(file).get(label)
    return entry if isinstance(entry, dict) and "mechanism" in entry else None


def _as_in_base(cell: Cell, entry: dict[str, Any]) -> Cell:
    """The cell with the base's settings of its row; what the command line sets holds for both."""
    here = settings_of(cell.entry) or cell.hyperparameters
    settings = entry | {k: v for k, v in cell.hyperparameters.items() if here.get(k, ...) != v}
    mechanism = settings.pop("mechanism")
    return replace(cell, mechanism=mechanism, hyperparameters=settings)


def _compare_cell(
    cell: Cell, there: Cell, base: Tree, jobs: Jobs, effort: Effort, tail: float
) -> Iterator[GateRow]:
    before = _observe(there, jobs, str(base.root))
    after = _observe(cell, jobs, None)
    if not after.is_ok:
        reason = f"this tree cannot run it: {after.status}: {after.reason}"
        verdict = GateVerdict.BROKEN if before.is_ok else GateVerdict.INCOMPARABLE
        yield GateRow.of(cell, channel_of(cell), verdict, reason=reason)
        return
    if not before.is_ok:
        reason = f"the base cannot run it: {before.status}: {before.reason}"
        yield GateRow.of(cell, channel_of(cell), GateVerdict.INCOMPARABLE, reason=reason)
        return
    numbers = [by_channel(side.found.observed()) for side in (before, after)]
    yield from exact_rows(cell, *numbers)
    if cell.is_task:
        return
    comparison = compare(there, cell, base.root, jobs, effort, tail=tail)
    if comparison.interval is None:
        comparison = _who_ended_it(cell, comparison, jobs, effort, tail)
    yield latency_row(cell, comparison)


def _who_ended_it(
    cell: Cell, comparison: PairedComparison, jobs: Jobs, effort: Effort, tail: float
) -> PairedComparison:
    """Find out whether this tree is to blame for a failure while both sides were timed.

    It is if timing it against itself, in a new process, fails as well.
    """
    once = replace(effort, num_forks=1, budget_s=0.0)
    alone = compare(cell, cell, CHECKOUT, jobs, once, tail=tail)
    if alone.interval is not None:
        return replace(comparison, reason=f"timing both sides failed: {comparison.reason}")
    reason = f"this tree cannot be timed: {alone.reason}"
    return replace(comparison, verdict=GateVerdict.BROKEN, reason=reason)


def _observe(
    cell: Cell, jobs: Jobs, root: str | None
) -> Outcome[TrialResult] | Outcome[TrainResult]:
    request: dict[str, Any] = {"plugins": cell.plugins, "cell": cell.to_dict(), "root": root}
    return jobs.do(TRAIN, **request) if cell.is_task else jobs.do(TRIAL, **request)


def latency_row(cell: Cell, found: PairedComparison) -> GateRow:
    """The row of a cell's times."""
    return GateRow.timed(
        cell, found.verdict, found.interval, current=found.latency_s, reason=found.reason
    )
