"""Wall time of a command, stage after stage, as ``timings=true`` prints it."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console

from bench.core.clock import now_s


class Timings:
    """Names and ends of a command's stages, each of which begins when the one before has ended.

    Takes the times, by `now_s`, at which the process and the composition of its configuration
    began.
    """

    def __init__(self, began_s: float, composes_s: float) -> None:
        self._began_s = began_s
        self._ends = [("interpreter", composes_s)]
        self.end("compose")

    def end(self, stage: str, at_s: float | None = None) -> None:
        """End a stage now, or at a given time."""
        self._ends.append((stage, now_s() if at_s is None else at_s))

    def stages(self) -> Iterator[tuple[str, float]]:
        """Each stage with its seconds."""
        began_s = self._began_s
        for stage, end_s in self._ends:
            yield stage, end_s - began_s
            began_s = end_s

    def lines(self, unit: str) -> Iterator[str]:
        """A line for each stage and for the sum, in seconds and as multiples of one stage."""
        stages = list(self.stages())
        unit_s = dict(stages).get(unit, 0.0)
        stages.append(("all", sum(seconds for _, seconds in stages)))
        width = max(len(stage) for stage, _ in stages)
        for stage, seconds in stages:
            times = f"{seconds / unit_s:6.2f} x {unit}" if unit_s else ""
            yield f"{stage:<{width}} {seconds:7.2f} s {times}".rstrip()

    def print(self, console: Console, unit: str) -> None:
        """Print `lines`, with a heading."""
        console.print("\nWall time, stage after stage:", highlight=False)
        for line in self.lines(unit):
            console.print(f"  {line}", highlight=False)
