"""The registry of claims, and what a claim's function is given to work with."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from bench.app.errors import ConfigError, did_you_mean
from bench.cell import Cell
from bench.comparison import LEVEL
from bench.measure.clock import now_s
from bench.plan import PlannedCell
from bench.publish.format import format_duration
from bench.rates.rows import trainable
from bench.rates.tuned import Arm, tuned
from bench.record import Quality, Record
from bench.reproduce.stored import Finding, entry_of
from bench.reproduce.training import config_for, train_all, train_planned
from bench.worker.jobs import Interrupt
from bench.worker.launch import WorkerServer

T = TypeVar("T")
Function = Callable[..., Finding]
_REGISTRY: dict[str, Function] = {}
_NOT_CLAIMS = {"registry", "samples", "sequential"}


class Stopped(Exception):
    """Ctrl-C or a deadline came while a claim trained; what had ended is kept."""


@dataclass(eq=False)
class Lab:
    """What a claim's function may use: training that is stored, and a line of progress.

    Attributes:
        out: where records go.
        sweep_id: of the records.
        console: where progress is shown.
        earlier_s: what runs that an earlier command stored took to train.
        kept: records of other stores that count as this one's.
        since: records that started earlier count for nothing; UTC, ISO 8601, or empty.
        until: when to stop training; None: at Ctrl-C.
        level: chance of a wrong verdict where nothing differs. Below `LEVEL` it is what one of
            several looks may spend, on all of a claim's differences together.
    """

    out: Path
    sweep_id: str
    console: Console
    earlier_s: float = 0.0
    kept: tuple[Record, ...] = ()
    since: str = ""
    until: Interrupt | None = None
    level: float = LEVEL

    def steps(self, items: Sequence[T], words: str) -> Iterator[T]:
        """The items one by one, with their count and the time left shown meanwhile."""
        started = now_s()
        with self.console.status("") as status:
            for number, item in enumerate(items):
                spent_s = now_s() - started
                left = format_duration(spent_s / number * (len(items) - number)) if number else "?"
                status.update(f"{words} {number + 1} of {len(items)}, {left} left")
                yield item

    def scores(
        self,
        rows: Mapping[str, dict[str, Any]],
        task: str,
        settings: Mapping[str, Any],
        seeds: Iterable[int],
        plugins: Sequence[str] = (),
    ) -> dict[str, list[float]]:
        """Train rows on a task under several seeds; their test scores in the order of the seeds.

        Args:
            rows: by label, a mechanism and its hyperparameters, as `row` gives them.
            task: an entry of conf/task.
            settings: what differs from it.
            seeds: of each run.
            plugins: modules that register mechanisms.

        Raises:
            Stopped: by Ctrl-C, or `until` came.
            ConfigError: a run ended without a score.
        """
        numbers = tuple(seeds)
        label = f"{task}{''.join(f' {key}={value}' for key, value in settings.items())}"
        tasks = {label: entry_of("task", task) | dict(settings)}
        config = config_for(self.out, rows, tasks, numbers, plugins)
        trained = train_all(
            config, self.sweep_id, self.console, self.until, kept=self.kept, since=self.since
        )
        if trained.is_interrupted:
            raise Stopped
        found: dict[tuple[str, int], float] = {}
        earlier_s: dict[tuple[str, int], float] = {}
        for record in sorted(trained.records, key=lambda record: record.started_at):
            if isinstance(record.result, Quality):
                run = record.cell.entry, record.cell.task.seed
                found[run] = record.result.accuracy
                is_new = record.sweep == self.sweep_id
                earlier_s[run] = 0.0 if is_new else record.result.train_s or 0.0
        self.earlier_s += sum(earlier_s.values())
        for name in rows:
            for seed in numbers:
                if (name, seed) not in found:
                    raise ConfigError(
                        f"{name} on {label} under seed {seed} ended without a score; "
                        f"{self.out}/records says why."
                    )
        return {name: [found[name, seed] for seed in numbers] for name in rows}

    def tuned(
        self,
        rows: Mapping[str, dict[str, Any]],
        task: str,
        settings: Mapping[str, Any],
        seeds: Iterable[int],
        plugins: Sequence[str] = (),
    ) -> dict[str, Arm]:
        """Train rows on a task, each at a rate that is searched for it at just these settings.

        Args:
            rows: by label, a mechanism and its hyperparameters, as `row` gives them.
            task: an entry of conf/task.
            settings: what differs from it.
            seeds: of each row; the search takes the first.
            plugins: modules that register mechanisms.

        Raises:
            Stopped: by Ctrl-C, or `until` came.
            ConfigError: a run ended without a score.
        """
        numbers = tuple(seeds)
        label = f"{task}{''.join(f' {key}={value}' for key, value in settings.items())}"
        tasks = {label: entry_of("task", task) | dict(settings)}
        config = config_for(self.out, rows, tasks, numbers, plugins)
        with WorkerServer(config.run.allocator) as server:

            def train(cells: Sequence[Cell]) -> dict[str, Record]:
                planned = [PlannedCell(cell=cell) for cell in cells]
                done = train_planned(
                    config,
                    planned,
                    server,
                    self.sweep_id,
                    self.console,
                    self.until,
                    kept=self.kept,
                    since=self.since,
                )
                if done.is_interrupted:
                    raise Stopped
                by_time = sorted(done.records, key=lambda record: record.started_at)
                self.earlier_s += sum(
                    r.result.train_s or 0.0
                    for r in by_time
                    if isinstance(r.result, Quality) and r.sweep != self.sweep_id
                )
                return {record.cell.key: record for record in by_time}

            arms = tuned(trainable(config, server), numbers, train)
        for arm in arms.values():
            if missing := [seed for seed in numbers if seed not in arm.runs]:
                raise ConfigError(
                    f"{arm.name} on {label} under seed {missing[0]} ended without a score; "
                    f"{self.out}/records says why."
                )
        return arms


def row(entry: str, **settings: Any) -> dict[str, Any]:
    """An entry of conf/attention with some hyperparameters of its own."""
    return entry_of("attention", entry) | settings


def register_claim(name: str) -> Callable[[Function], Function]:
    """Enter a function under the id of what it tests. A name stands for one function only.

    Raises:
        ValueError: the name is taken.
    """

    def enter(function: Function) -> Function:
        taken = _REGISTRY.get(name)
        if taken is not None and taken.__module__ != function.__module__:
            raise ValueError(f"The claim {name!r} is taken by {taken.__module__}.")
        _REGISTRY[name] = function
        return function

    return enter


def claim_names() -> tuple[str, ...]:
    """All registered names, sorted."""
    package = importlib.import_module("bench.reproduce.claims")
    for module in pkgutil.iter_modules(package.__path__):
        if module.name not in _NOT_CLAIMS:
            importlib.import_module(f"{package.__name__}.{module.name}")
    return tuple(sorted(_REGISTRY))


def claim_function(name: str) -> Function:
    """The function behind a name.

    Raises:
        ConfigError: none is registered under it; the message names the nearest ones.
    """
    names = claim_names()
    if name not in names:
        raise ConfigError(f"by: {name} names no function. {did_you_mean(name, names)}")
    return _REGISTRY[name]


def settings_of(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a YAML, checked against the function's signature.

    Raises:
        ConfigError: a setting that it does not take, or one that it needs and does not get.
    """
    parameters = list(inspect.signature(claim_function(name)).parameters.values())[1:]  # the lab
    known = [parameter.name for parameter in parameters]
    for key in given:
        if key not in known:
            raise ConfigError(f"{name} takes no setting {key!r}. {did_you_mean(key, known)}")
    needed = [p.name for p in parameters if p.default is p.empty and p.name not in given]
    if needed:
        raise ConfigError(f"{name} needs the settings {', '.join(needed)}; its YAML lacks them.")
    return dict(given)
