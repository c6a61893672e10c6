"""What a sweep adds to the calls that it times, part by part, and what the whole command takes.

The parts are read off the messages that workers send anyway, so nothing is measured by code that
a sweep would not run.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bench.machine import environment
from bench.measure.clock import now_s
from bench.measure.stopping import Stopping
from bench.plan import plan
from bench.record import Status
from bench.run import Runner
from bench.selftest import children
from bench.selftest.config import SelftestConfig
from bench.selftest.data import FORK, ROUNDS, Line
from bench.store import Store
from bench.worker.jobs import Interrupt, Jobs, Message, Outcome
from bench.worker.launch import WorkerServer

_BUDGET_S = 0.05
"""Of rounds per cell: what is timed is not the question here."""


class WatchedJobs(Jobs):
    """Jobs that notes how long each step of them took, as seen from outside.

    Attributes:
        steps_s: seconds by step, summed over all jobs. `ROUNDS` holds calls that were timed or
            warmed up; the rest of the job that makes them is in `FORK`.
    """

    def __init__(self, server: WorkerServer, timeout_s: float, interrupt: Interrupt) -> None:
        super().__init__(server, timeout_s, interrupt)
        self.steps_s: dict[str, float] = defaultdict(float)

    def do(
        self,
        job: str,
        *,
        hear: Callable[[Message], None] | None = None,
        may_stop: Callable[[], bool] | None = None,
        **request: Any,
    ) -> Outcome:
        """See `Jobs.do`."""
        marks = [(FORK, now_s())]

        def note(message: Message) -> None:
            if "step" in message:
                marks.append((message["step"], now_s()))
            if hear is not None:
                hear(message)

        outcome = super().do(job, hear=note, may_stop=may_stop, **request)
        ended = now_s()
        if job == "trial":
            took = durations(marks, ended)
        else:
            wall_s = ended - marks[0][1]
            took = {ROUNDS: outcome.measured_s, FORK: wall_s - outcome.measured_s}
        for step, seconds in took.items():
            self.steps_s[step] += seconds
        return outcome


def durations(marks: Sequence[tuple[str, float]], ended: float) -> dict[str, float]:
    """Seconds of each step, given when it began and when the last one ended."""
    begun = [at for _, at in marks]
    ends = [*begun[1:], ended]
    return {step: end - at for (step, at), end in zip(marks, ends, strict=True)}


def measure_overhead(config: SelftestConfig, server: WorkerServer, interrupt: Interrupt) -> Line:
    """A small sweep, watched from within; then the same by its command.

    Raises:
        Interrupted: on Ctrl-C.
        RuntimeError: a cell did not end well, or the command failed.
    """
    with tempfile.TemporaryDirectory(prefix="attnbench-overhead-") as folder:
        watched = _watched_sweep(config, server, interrupt, Path(folder) / "within")
        return watched | {"command_s": _command_s(config, interrupt, Path(folder) / "command")}


def _watched_sweep(
    config: SelftestConfig, server: WorkerServer, interrupt: Interrupt, out: Path
) -> Line:
    sweep = replace(config.sweep, measure=Stopping(budget_s=_BUDGET_S), out=out)
    planned = plan(sweep)
    here = environment.current(("cpu",), sweep.run.allocator, server.environment())
    server.start()
    jobs = WatchedJobs(server, sweep.run.timeout_s, interrupt)
    store = Store(out, "overhead")
    started = now_s()
    for record in Runner(sweep, here, jobs, _Silent(), "overhead").run(planned):
        store.append(record)
        if record.status is not Status.OK:
            raise RuntimeError(f"{record.cell.describe()}: {record.status}: {record.reason}")
    wall_s = now_s() - started
    steps_s = {step: round(seconds, 4) for step, seconds in jobs.steps_s.items()}
    return {"num_cells": len(planned), "sweep_s": round(wall_s, 4), "steps_s": steps_s}


def _command_s(config: SelftestConfig, interrupt: Interrupt, out: Path) -> float:
    """Wall time of ``python -m bench.sweep`` on the same cells, tables, pictures and all."""
    axes = asdict(config.sweep.axes)
    words = [
        f"attention=[{','.join(entry.label for entry in config.sweep.attention)}]",
        # What has no value is left alone: null is no value for a list.
        *(f"{name}=[{_listed(axes[name])}]" for name in axes if None not in axes[name]),
        *("task=[]", f"measure.budget_s={_BUDGET_S}", f"out={out}"),
    ]
    with tempfile.TemporaryFile() as log:
        started = now_s()
        code = children.run(
            ["-m", "bench.sweep", *words], {}, log, timeout_s=600.0, interrupt=interrupt
        )
        if code != 0:
            raise RuntimeError(f"bench.sweep ended with {code}:\n{children.last_words(log)}")
        return round(now_s() - started, 3)


def _listed(values: Sequence[Any]) -> str:
    return ",".join(str(value).lower() for value in values)


class _Silent:
    """Nobody watches this sweep."""

    def say(self, words: str) -> None:
        """See `bench.run.Listener`."""

    def announce(self, words: str) -> None:
        """See `bench.run.Listener`."""
