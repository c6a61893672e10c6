"""What a person sees while the self-test runs: a bar with time left, or a line now and then."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from bench.measure.clock import now_s
from bench.progress import format_duration
from bench.selftest.units import Unit

_LINE_EVERY_S = 30.0


class SelftestProgress:
    """Progress over units of known expected cost. A context manager.

    The time left is the expected cost of what is to come, scaled by how the finished ones turned
    out.
    """

    def __init__(self, console: Console, units: Sequence[Unit]) -> None:
        self._console = console
        self._total = len(units)
        self._num_done = 0
        self._left_s = sum(unit.expected_s for unit in units)
        self._passed_s = 0.0
        self._started = self._last_line = now_s()
        self._bar = Progress(
            TextColumn("{task.percentage:>3.0f} %"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]} left"),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("", total=self._total, left="?")

    def __enter__(self) -> SelftestProgress:
        self._started = self._last_line = now_s()
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def begin(self, unit: Unit) -> None:
        """What is measured now."""
        self._bar.update(self._task, description=unit.describe(), left=self._left())

    def finish(self, unit: Unit) -> None:
        """It is on the disk."""
        self._num_done += 1
        self._left_s -= unit.expected_s
        self._passed_s += unit.expected_s
        self._bar.update(self._task, completed=self._num_done, left=self._left())
        is_due = now_s() - self._last_line >= _LINE_EVERY_S or self._num_done == self._total
        if is_due and not self._console.is_terminal:
            self._last_line = now_s()
            line = f"[{self._num_done}/{self._total}] {unit.describe()} ({self._left()} left)"
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _left(self) -> str:
        pace = (now_s() - self._started) / self._passed_s if self._passed_s > 0 else 1.0
        return format_duration(max(0.0, self._left_s) * pace)
