"""The registry of claims, and the `Lab` that their functions are given."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bench.core.cell import Cell
from bench.core.cli.errors import ConfigError, did_you_mean
from bench.core.clock import now_s
from bench.core.comparison import LEVEL
from bench.core.format import format_duration
from bench.core.record import Quality, Record
from bench.measuring.config import SweepConfig
from bench.measuring.plan import PlannedCell
from bench.measuring.worker.jobs import Interrupt
from bench.studies.rates.rows import trainable
from bench.studies.rates.tuned import Arm, tuned
from bench.studies.reproduce.stored import Finding, entry_of
from bench.studies.reproduce.training import config_for
from bench.studies.session import Session, Stopped

T = TypeVar("T")
Function = Callable[..., Finding]
_REGISTRY: dict[str, Function] = {}
_NOT_CLAIMS = {"registry", "samples", "sequential"}


@dataclass(eq=False)
class Lab:
    """Tools that a claim's function may use: training that is stored, and a line of progress.

    Attributes:
        session: trains, and shows progress.
        out: where records go.
        earlier_s: training time, in seconds, of runs that earlier commands stored.
        kept: records of other stores that count as this one's.
        since: records that started earlier are ignored; UTC, ISO 8601, or empty.
        until: when to stop training; None: at Ctrl-C.
        level: chance of a wrong verdict where nothing differs. Below `LEVEL` it is the share of one
            of several looks, for all of a claim's differences together.
    """

    session: Session
    out: Path
    earlier_s: float = 0.0
    kept: tuple[Record, ...] = ()
    since: str = ""
    until: Interrupt | None = None
    level: float = LEVEL

    def steps(self, items: Sequence[T], words: str) -> Iterator[T]:
        """Yield items one by one, and show their count and the time left meanwhile."""
        started = now_s()
        with self.session.console.status("") as status:
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
        """Train rows on a task; returns test scores by label, in the order of the seeds.

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
        label, config = self._asked(rows, task, settings, seeds, plugins)
        found: dict[tuple[str, int], float] = {}
        for record in self._train(config, self.session.plan(config)).values():
            if isinstance(record.result, Quality):
                found[record.cell.entry, record.cell.task.seed] = record.result.accuracy
        for name in rows:
            for seed in config.axes.seed:
                if (name, seed) not in found:
                    raise self._without_a_score(name, label, seed)
        return {name: [found[name, seed] for seed in config.axes.seed] for name in rows}

    def tuned(
        self,
        rows: Mapping[str, dict[str, Any]],
        task: str,
        settings: Mapping[str, Any],
        seeds: Iterable[int],
        plugins: Sequence[str] = (),
    ) -> dict[str, Arm]:
        """Train rows on a task, each at a rate that is searched for it at exactly these settings.

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
        label, config = self._asked(rows, task, settings, seeds, plugins)

        def train(cells: Sequence[Cell]) -> dict[str, Record]:
            return self._train(config, [PlannedCell(cell=cell) for cell in cells])

        arms = tuned(trainable(config, self.session), config.axes.seed, train)
        for arm in arms.values():
            for seed in config.axes.seed:
                if seed not in arm.runs:
                    raise self._without_a_score(arm.name, label, seed)
        return arms

    def _asked(
        self,
        rows: Mapping[str, dict[str, Any]],
        task: str,
        settings: Mapping[str, Any],
        seeds: Iterable[int],
        plugins: Sequence[str],
    ) -> tuple[str, SweepConfig]:
        """The task in words, and the sweep that trains rows on it."""
        label = f"{task}{''.join(f' {key}={value}' for key, value in settings.items())}"
        tasks = {label: entry_of("task", task) | dict(settings)}
        return label, config_for(self.out, rows, tasks, tuple(seeds), plugins)

    def _train(self, config: SweepConfig, planned: Sequence[PlannedCell]) -> dict[str, Record]:
        """The newest record of each run, by key; adds earlier commands' time to `earlier_s`."""
        trained = self.session.train(
            config, planned, until=self.until, kept=self.kept, since=self.since
        )
        if trained.is_interrupted:
            raise Stopped
        self.earlier_s += sum(
            record.result.train_s or 0.0
            for record in trained.by_key.values()
            if isinstance(record.result, Quality) and record.sweep != self.session.sweep_id
        )
        return trained.by_key

    def _without_a_score(self, name: str, label: str, seed: int) -> ConfigError:
        return ConfigError(
            f"{name} on {label} under seed {seed} ended without a score; {self.out}/records says "
            "why."
        )


def row(entry: str, **settings: Any) -> dict[str, Any]:
    """An entry's mechanism and hyperparameters, some of them replaced."""
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
    package = importlib.import_module("bench.studies.reproduce.claims")
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
