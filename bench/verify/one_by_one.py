"""Long work on many names, told as it goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console

from bench.app.progress import format_duration
from bench.measure.clock import now_s


def one_by_one(names: Sequence[str], work: Callable[[str], str], console: Console) -> None:
    """Do the work for each name, with a line for how it ended and the time left."""
    started = now_s()
    with console.status("") as status:
        for number, name in enumerate(names, start=1):
            left = _left(started, number - 1, len(names))
            status.update(f"{name}, {number} of {len(names)}, {left} left")
            ending = work(name)
            left = _left(started, number, len(names))
            line = f"[{number}/{len(names)}] {name}: {ending} ({left} left)"
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def _left(started: float, num_done: int, num_all: int) -> str:
    if not num_done:
        return "?"
    return format_duration((now_s() - started) / num_done * (num_all - num_done))
