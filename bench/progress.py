"""What a person sees while a sweep runs: a bar with time left, or plain lines."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from bench.measure.clock import now_s
from bench.metrics import evaluate
from bench.publish.format import column_for
from bench.record import Record, Status


class SweepProgress:
    """Progress over cells that differ in cost by orders of magnitude. A context manager.

    The time left is the expected cost of the cells to come, scaled by how the finished ones
    turned out against what was expected of them.
    """

    def __init__(self, console: Console, expected_s: dict[str, float]) -> None:
        self._console = console
        self._expected = expected_s
        self._total = len(expected_s)
        self._num_done = 0
        self._left_s = sum(expected_s.values())
        self._passed_s = 0.0
        self._started = now_s()
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

    def __enter__(self) -> SweepProgress:
        self._started = now_s()
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def say(self, words: str) -> None:
        """What is going on now; shown on a terminal only."""
        self._bar.update(self._task, description=words, left=self._left())

    def announce(self, words: str) -> None:
        """A step of the sweep, worth a line in a log."""
        self.say(words)
        if not self._console.is_terminal:
            self._console.print(f"… {words}", markup=False, highlight=False, soft_wrap=True)

    def finish(self, record: Record) -> None:
        """A cell has its record."""
        expected = self._expected.get(record.cell.entry + record.cell.key, 0.0)
        self._left_s -= expected
        self._passed_s += expected
        self._num_done += 1
        self._bar.update(self._task, completed=self._num_done, left=self._left())
        if not self._console.is_terminal or record.status is not Status.OK:
            self._console.print(
                f"[{self._num_done}/{self._total}] {record.cell.describe()}: {_ending(record)} "
                f"({self._left()} left)",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )

    def _left(self) -> str:
        if self._passed_s <= 0:
            return format_duration(self._left_s)
        pace = (now_s() - self._started) / self._passed_s
        return format_duration(max(0.0, self._left_s) * pace)


def _ending(record: Record) -> str:
    if record.status is not Status.OK:
        return f"{record.status}: {record.reason}"
    name = "accuracy" if record.cell.is_task else "latency_s"
    value = evaluate(record, [name])[name]
    column = column_for(name, [value])
    words, _, unit = column.title.rstrip(")").partition(" (")
    return f"{words} {column.write(value)} {unit}"


def format_duration(seconds: float) -> str:
    """As ``8 s``, ``3 min 20 s`` or ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
