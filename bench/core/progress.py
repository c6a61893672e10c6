"""Progress display while something is measured: a bar or lines, with count and time left."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from bench.core.clock import now_s
from bench.core.format import format_duration, number, with_unit
from bench.core.observed import Speed
from bench.core.record import Record, Status
from bench.core.spans import span_of, span_words
from bench.core.statistics import median


class _Progress:
    """A bar with time left. A context manager.

    Steps differ in cost by orders of magnitude, so the time left is the expected cost of the
    remaining ones, scaled by how long the finished ones took.
    """

    def __init__(self, console: Console, expected_s: Iterable[float]) -> None:
        costs = list(expected_s)
        self._console = console
        self._total = len(costs)
        self._num_done = 0
        self._left_s = sum(costs)
        self._passed_s = 0.0
        self._started = now_s()
        self._bar = Progress(
            TextColumn("{task.percentage:>3.0f} %"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]} left"),
            TextColumn("{task.description}", markup=False),  # others wrote some of it
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("", total=self._total, left="?")

    def __enter__(self) -> Self:
        self._started = now_s()
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def say(self, words: str) -> None:
        """Show the current activity; on a terminal only."""
        self._bar.update(self._task, description=words, left=self._left())

    def pace(self) -> float:
        """Seconds taken over seconds expected, of what is finished; 1 before anything is."""
        return (now_s() - self._started) / self._passed_s if self._passed_s > 0 else 1.0

    def _advance(self, expected_s: float) -> None:
        self._left_s -= expected_s
        self._passed_s += expected_s
        self._num_done += 1
        self._bar.update(self._task, completed=self._num_done, left=self._left())

    def _print(self, words: str) -> None:
        self._console.print(words, markup=False, highlight=False, soft_wrap=True)

    def _left_to_go_s(self) -> float:
        return max(0.0, self._left_s) * self.pace()

    def _left(self) -> str:
        return format_duration(self._left_to_go_s())


class SweepProgress(_Progress):
    """Progress over cells, by what each is expected to cost.

    Costs are in seconds, by a cell's entry followed by its key. `ends_s` is the latest end, as by
    `now_s`.
    """

    def __init__(
        self, console: Console, expected_s: dict[str, float], ends_s: float | None = None
    ) -> None:
        super().__init__(console, expected_s.values())
        self._expected = expected_s
        self._ends_s = ends_s

    def _left_to_go_s(self) -> float:
        left_s = super()._left_to_go_s()
        return left_s if self._ends_s is None else min(left_s, max(0.0, self._ends_s - now_s()))

    def announce(self, words: str) -> None:
        """Show a step of the sweep; without a terminal as a line of the log."""
        self.say(words)
        if not self._console.is_terminal:
            self._print(f"… {words}")

    def finish(self, record: Record, by: str = "") -> None:
        """Count a cell as done; `by` says who measured it, if not this sweep."""
        self._advance(self._expected.get(record.cell.entry + record.cell.key, 0.0))
        if not self._console.is_terminal or record.status is not Status.OK:
            self._print(
                f"[{self._num_done}/{self._total}] {record.cell.describe()}: {_ending(record)} "
                f"({by and by + ', '}{self._left()} left)"
            )


class Unit(Protocol):
    """One piece of work that is measured and stored as a whole."""

    @property
    def expected_s(self) -> float:
        """Estimated wall time in seconds."""
        ...

    def describe(self) -> str:
        """A few words for a progress line."""
        ...


@dataclass(kw_only=True)
class Part:
    """A unit with a name.

    Attributes:
        outcome: how it ended, in words; empty until then.
    """

    name: str
    outcome: str = ""
    expected_s: float = 1.0

    def describe(self) -> str:
        """As ``nala, trained: done``."""
        return f"{self.name}: {self.outcome}" if self.outcome else self.name


class UnitProgress(_Progress):
    """Progress over units.

    Without a terminal, lines are at least `line_every_s` apart.
    """

    def __init__(
        self, console: Console, units: Sequence[Unit], *, line_every_s: float = 0.0
    ) -> None:
        super().__init__(console, (unit.expected_s for unit in units))
        self._line_every_s = line_every_s
        self._last_line = now_s()

    def expected_s(self, unit: Unit) -> float:
        """Expected duration of a unit, at the pace of those that are done."""
        return unit.expected_s * self.pace()

    def begin(self, unit: Unit) -> None:
        """Announce the unit that is measured now."""
        self.say(unit.describe())

    def finish(self, unit: Unit) -> None:
        """Count a unit as done, once it is on disk."""
        self._advance(unit.expected_s)
        is_due = now_s() - self._last_line >= self._line_every_s or self._num_done == self._total
        if is_due and not self._console.is_terminal:
            self._last_line = now_s()
            self._print(f"[{self._num_done}/{self._total}] {unit.describe()} ({self._left()} left)")


def _ending(record: Record) -> str:
    if record.result is None:
        return f"{record.status}: {record.reason}"
    if isinstance(record.result, Speed):
        return f"latency {with_unit('latency_s', median(record.result.latency_s))}"
    if found := span_of(record.result):
        return f"span {span_words(found.height, found.rungs)} {record.result.rung_of}"
    score, unit = record.result.accuracy, record.result.unit
    return f"{number(score)} {unit}" if unit else f"accuracy {with_unit('accuracy', score)}"
