"""From the lines of a run to shares, widths and milliseconds. Lines in, numbers out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from bench.gate.verdict import Verdict
from bench.selftest.binomial import exact_interval
from bench.selftest.data import ROUNDS, UNCHANGED, Line, Run
from bench.statistics import median

MAX_FALSE_ALARMS = 0.01
MIN_POWER = 0.95
MAX_HARNESS_S = 0.06
SURELY_FOUND_BESIDE_LOAD = 10
"""The smallest slowdown, as calls per repeated one, that has to be found beside the load."""

QUIET_CORES = 1.25
"""Cores kept busy, the measured call's own among them, on a machine that does nothing else."""

_TIMED = ("first call", "oracle", "memory", "flops", ROUNDS)


@dataclass(frozen=True, kw_only=True)
class Share:
    """So many of so many."""

    hits: int
    trials: int

    @property
    def share(self) -> float:
        """Between 0 and 1."""
        return self.hits / self.trials

    @cached_property
    def interval(self) -> tuple[float, float]:
        """Exact, 95 %."""
        return exact_interval(self.hits, self.trials)


@dataclass(frozen=True, kw_only=True)
class GateSeries:
    """What the gate said of one slowdown, or of none.

    Attributes:
        is_loaded: beside the load; None for both together.
        repeat_every: None for this tree against itself.
        verdicts: how often each was given.
        ratio: median over comparisons of the ratio that was found.
        half_width: median over comparisons of half the interval, relative to the ratio.
        wall_s: median duration of a comparison.
    """

    is_loaded: bool | None
    repeat_every: int | None
    verdicts: Counter[str]
    ratio: float | None
    half_width: float | None
    wall_s: float | None

    @property
    def slower(self) -> Share:
        """Comparisons that fail a commit: false alarms, or slowdowns that were found."""
        return Share(hits=self.verdicts[Verdict.SLOWER], trials=self.verdicts.total())


@dataclass(frozen=True, kw_only=True)
class RivalSeries:
    """What medians from two processes say of one slowdown, or of none.

    Attributes:
        repeat_every: None for the same code in both processes.
        slower: trials in which the threshold was exceeded.
        ratio: median over trials of current / base.
        worst: the largest deviation of a ratio from its true size, either way.
    """

    tool: str
    is_loaded: bool
    repeat_every: int | None
    slower: Share
    ratio: float
    worst: float


@dataclass(frozen=True, kw_only=True)
class Precision:
    """How well one cell's speed-up is known; None where it was not measured.

    Attributes:
        idle, loaded: half of the 95 % interval, relative to the speed-up.
    """

    cell: str
    idle: float | None
    loaded: float | None


@dataclass(frozen=True, kw_only=True)
class Overhead:
    """Seconds per cell of a small sweep; medians over repetitions.

    Attributes:
        steps_s: by step of a cell's jobs.
        harness_s: all but the timed calls, the oracle, and the memory and FLOP passes.
        everything_s: all but the timed calls.
        command_s: of the whole command, start and tables included.
    """

    num_cells: int
    num_sweeps: int
    steps_s: dict[str, float]
    harness_s: float
    everything_s: float
    command_s: float


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What should hold. `is_met` is None where it has not been measured."""

    words: str
    found: str
    is_met: bool | None


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Everything that the page shows.

    Attributes:
        num_disturbed: units of an idle machine during which it was not idle.
        num_idle: units that should have been.
    """

    alarms: tuple[GateSeries, ...]
    power: tuple[GateSeries, ...]
    rivals: tuple[RivalSeries, ...]
    precision: tuple[Precision, ...]
    overhead: Overhead | None
    goals: tuple[Goal, ...]
    num_disturbed: int
    num_idle: int


def findings_of(run: Run) -> Findings:
    """Conclude from what was observed."""
    alarms = tuple(_alarms([line for line in run.lines if line["part"] == "alarms"]))
    power = tuple(_power([line for line in run.lines if line["part"] == "power"]))
    overhead = _overhead([line for line in run.lines if line["part"] == "overhead"])
    threshold = run.sessions[0].settings["rivals"]["threshold"]
    idle = [line for line in run.lines if not line["is_loaded"]]
    return Findings(
        alarms=alarms,
        power=power,
        rivals=tuple(_rivals([line for line in run.lines if line["part"] == "rivals"], threshold)),
        precision=tuple(_precision([line for line in run.lines if line["part"] == "precision"])),
        overhead=overhead,
        goals=tuple(_goals(alarms, power, overhead)),
        num_disturbed=sum(line["busy_cores"] > QUIET_CORES for line in idle),
        num_idle=len(idle),
    )


def _alarms(lines: Sequence[Line]) -> Iterable[GateSeries]:
    for is_loaded in (False, True, None):
        chosen = [line for line in lines if is_loaded in (None, line["is_loaded"])]
        if chosen:
            yield _series(chosen, is_loaded, None)


def _power(lines: Sequence[Line]) -> Iterable[GateSeries]:
    keys = {(line["is_loaded"], line["repeat_every"]) for line in lines}
    for is_loaded, every in sorted(keys, key=lambda key: (key[0], -key[1])):
        chosen = [x for x in lines if (x["is_loaded"], x["repeat_every"]) == (is_loaded, every)]
        yield _series(chosen, is_loaded, every)


def _series(lines: Sequence[Line], is_loaded: bool | None, repeat_every: int | None) -> GateSeries:
    timed = [line for line in lines if "median" in line]
    return GateSeries(
        is_loaded=is_loaded,
        repeat_every=repeat_every,
        verdicts=Counter(line["verdict"] for line in lines),
        ratio=median([line["median"] for line in timed]),
        half_width=median([half_width(line) for line in timed]),
        wall_s=median([line["wall_s"] for line in lines]),
    )


def half_width(line: Line) -> float:
    """Half of an interval, relative to its median."""
    width: float = (line["high"] - line["low"]) / 2 / line["median"]
    return width


def _rivals(lines: Sequence[Line], threshold: float) -> Iterable[RivalSeries]:
    ratios: dict[tuple[str, bool, int | None], list[float]] = {}
    alarms: Counter[tuple[str, bool, int | None]] = Counter()
    for line in lines:
        for word, times in line["current_s"].items():
            key = (line["tool"], line["is_loaded"], None if word == UNCHANGED else int(word))
            for base, current in zip(line["base_s"], times, strict=True):
                ratios.setdefault(key, []).append(current / base)
                alarms[key] += is_alarm(base, current, threshold)
    for key in sorted(ratios, key=lambda k: (k[0], k[1], k[2] is not None, -(k[2] or 0))):
        tool, is_loaded, every = key
        true = 1 + (1 / every if every else 0)
        yield RivalSeries(
            tool=tool,
            is_loaded=is_loaded,
            repeat_every=every,
            slower=Share(hits=alarms[key], trials=len(ratios[key])),
            ratio=median(ratios[key]) or 0.0,
            worst=max(abs(ratio / true - 1) for ratio in ratios[key]),
        )


def is_alarm(base_s: float, current_s: float, threshold: float) -> bool:
    """Whether medians of two processes fail a commit: pytest-benchmark's rule, by ``median:5%``."""
    return current_s / base_s - 1 > threshold


def _precision(lines: Sequence[Line]) -> Iterable[Precision]:
    widths: dict[str, dict[bool, float]] = {}
    for line in lines:
        for cell in line["cells"]:
            widths.setdefault(cell["cell"], {})[line["is_loaded"]] = half_width(cell)
    for name, found in widths.items():
        yield Precision(cell=name, idle=found.get(False), loaded=found.get(True))


def _overhead(lines: Sequence[Line]) -> Overhead | None:
    if not lines:
        return None
    num_cells = int(lines[0]["num_cells"])

    def per_cell(seconds: Iterable[float]) -> float:
        return (median(list(seconds)) or 0.0) / num_cells

    def without(line: Line, steps: Iterable[str]) -> float:
        return float(line["sweep_s"] - sum(line["steps_s"].get(step, 0.0) for step in steps))

    steps = list(dict.fromkeys(step for line in lines for step in line["steps_s"]))
    return Overhead(
        num_cells=num_cells,
        num_sweeps=len(lines),
        steps_s={step: per_cell(x["steps_s"].get(step, 0.0) for x in lines) for step in steps},
        harness_s=per_cell(without(line, _TIMED) for line in lines),
        everything_s=per_cell(without(line, [ROUNDS]) for line in lines),
        command_s=median([line["command_s"] for line in lines]) or 0.0,
    )


def percent_slower(repeat_every: int | None) -> str:
    """A slowdown in words."""
    return "0 %" if repeat_every is None else f"{100 / repeat_every:g} %"


def _goals(
    alarms: Sequence[GateSeries], power: Sequence[GateSeries], overhead: Overhead | None
) -> Iterable[Goal]:
    together = next((series.slower for series in alarms if series.is_loaded is None), None)
    yield _goal(
        f"at most {100 * MAX_FALSE_ALARMS:g} % false alarms",
        together,
        lambda share: share <= MAX_FALSE_ALARMS,
    )
    for series in power:
        if series.is_loaded and (series.repeat_every or 0) > SURELY_FOUND_BESIDE_LOAD:
            continue
        place = "beside the load" if series.is_loaded else "idle"
        yield _goal(
            f"a slowdown of {percent_slower(series.repeat_every)} is found at least "
            f"{100 * MIN_POWER:g} times in 100, {place}",
            series.slower,
            lambda share: share >= MIN_POWER,
        )
    yield Goal(
        words=f"the harness takes less than {1e3 * MAX_HARNESS_S:g} ms per cell",
        found="not measured" if overhead is None else f"{1e3 * overhead.harness_s:.0f} ms",
        is_met=None if overhead is None else overhead.harness_s < MAX_HARNESS_S,
    )


def _goal(words: str, share: Share | None, is_met: Callable[[float], bool]) -> Goal:
    if share is None:
        return Goal(words=words, found="not measured", is_met=None)
    return Goal(words=words, found=share_words(share), is_met=is_met(share.share))


def share_words(share: Share) -> str:
    """As ``2 of 300 = 0.7 % [0.1, 2.4]``."""
    low, high = share.interval
    return (
        f"{share.hits} of {share.trials} = {100 * share.share:.1f} % "
        f"[{100 * low:.1f}, {100 * high:.1f}]"
    )
