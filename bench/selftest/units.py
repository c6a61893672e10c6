"""What is to be measured, in an order that gives every series the same machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.selftest.config import SelftestConfig

_FORK_S = 0.18
"""A fork beside its rounds: started, both trees' mechanisms built and warmed up."""

_PROCESS_S = 3.0
"""A rival's process before it times anything."""

_SWEEP_S = 20.0
_UNDECIDED = 1.15
"""Comparisons that need more than their first forks, in forks per comparison."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One thing that is measured and written down as a whole.

    Attributes:
        is_loaded: beside a busy neighbour.
        index: within its series; it decides the cell.
        repeat_every: the current side makes one in so many calls twice; None changes nothing.
        tool: the rival that is asked, in the part ``rivals``.
        expected_s: wall time, as a guess.
    """

    part: str
    is_loaded: bool
    index: int
    repeat_every: int | None = None
    tool: str | None = None
    expected_s: float = 0.0

    @property
    def id(self) -> tuple[Any, ...]:
        """What it is, whatever it is expected to take."""
        return (self.part, self.is_loaded, self.repeat_every, self.tool, self.index)

    def describe(self) -> str:
        """A few words for a progress line."""
        slower = f" +{100 / self.repeat_every:g} %" if self.repeat_every else ""
        tool = f" {self.tool}" if self.tool else ""
        return f"{self.part}{tool}{slower} {'loaded' if self.is_loaded else 'idle'}"

    def to_dict(self) -> dict[str, Any]:
        """As written to the data; what is None is left out."""
        flat = {
            "part": self.part,
            "is_loaded": self.is_loaded,
            "index": self.index,
            "repeat_every": self.repeat_every,
            "tool": self.tool,
        }
        return {name: value for name, value in flat.items() if value is not None}


def id_of(line: dict[str, Any]) -> tuple[Any, ...]:
    """The unit that a line of data is about."""
    names = ("part", "is_loaded", "repeat_every", "tool", "index")
    return tuple(line.get(name) for name in names)


def plan_units(config: SelftestConfig, parts: tuple[str, ...]) -> tuple[Unit, ...]:
    """All units of some parts, lap by lap.

    A machine is another one an hour later. Each lap holds an equal share of every series, so that
    all of them see the same machine, and so that a run that is stopped half-way has half of each.
    Within a lap, the idle ones come before those beside the load.
    """
    placed = [
        (int((unit.index + 0.5) / count * config.laps), unit)
        for count, unit in _all_units(config)
        if unit.part in parts
    ]
    placed.sort(key=lambda at: (at[0], at[1].is_loaded, parts.index(at[1].part), at[1].index))
    return tuple(unit for _, unit in placed)


def _all_units(config: SelftestConfig) -> Iterator[tuple[int, Unit]]:
    """Each unit with the number of units in its series."""
    rivals = config.rivals
    num_sides = 2 + len(rivals.repeat_every)  # the base, the same again, and the slowed ones
    pair_s = 2 * _PROCESS_S + num_sides * rivals.cells_per_process * (rivals.budget_s + 0.1)
    effort = config.effort
    trial_s = _UNDECIDED * effort.num_forks * (effort.fork_s + _FORK_S)
    num_entries = len(config.sweep.attention)
    precision_s = num_entries * (config.precision_budget_s + 0.2)
    for is_loaded in (False, True):
        half = (config.num_alarm_trials + (not is_loaded)) // 2
        yield from _series(half, part="alarms", is_loaded=is_loaded, expected_s=trial_s)
        for every in config.power_repeats:
            yield from _series(
                config.num_power_trials,
                part="power",
                is_loaded=is_loaded,
                repeat_every=every,
                expected_s=trial_s,
            )
        for tool in rivals.tools:
            yield from _series(
                rivals.num_pairs, part="rivals", is_loaded=is_loaded, tool=tool, expected_s=pair_s
            )
        count = len(config.precision_seq_len)
        yield from _series(count, part="precision", is_loaded=is_loaded, expected_s=precision_s)
    yield from _series(
        config.num_overhead_trials, part="overhead", is_loaded=False, expected_s=_SWEEP_S
    )


def _series(count: int, **fields: Any) -> Iterator[tuple[int, Unit]]:
    for index in range(count):
        yield count, Unit(index=index, **fields)
