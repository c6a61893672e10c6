"""The registry of claims, and the `Lab` that their functions are given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from bench.core.cell import Cell
from bench.core.cli.command import read_yaml
from bench.core.cli.errors import ConfigError
from bench.core.clock import now_s
from bench.core.comparison import LEVEL
from bench.core.format import format_duration
from bench.core.places import CONF
from bench.core.record import Quality, Record
from bench.core.registry import Registry
from bench.measuring.config import SweepConfig, training_config
from bench.measuring.plan import PlannedCell
from bench.measuring.worker.jobs import Deadline, Interrupt
from bench.studies.rates.tuned import Arm, trainable, tuned
from bench.studies.reproduce.findings import Finding
from bench.studies.reproduce.runs import entry_of
from bench.studies.session import Session, Stopped

T = TypeVar("T")
Function = Callable[..., Finding]
_CLAIMS: Registry[Function] = Registry("claim's function", "bench.studies.reproduce.claims")
claim_names, claim_function = _CLAIMS.names, _CLAIMS.find
ARMS = ("bench.studies.reproduce.arms",)
"""Plug-in with the mechanisms that only a comparison needs."""
_LONGEST_S = 7 * 86_400
"""Time limit of a run, in seconds: so long that only a budget cuts a run off."""


@dataclass(eq=False)
class Lab:
    """Tools that a claim's function may use: training that is stored, and a line of progress.

    Attributes:
        session: trains, and shows progress.
        out: where records go.
        earlier: training time, in seconds, of each run that an earlier command stored, by key.
        kept: records of other stores that count as this one's.
        since: records that started earlier are ignored; UTC, ISO 8601, or empty.
        until: when to stop training; None: at Ctrl-C.
        used: processor, and commit with ``*`` for uncommitted changes, of the runs that were used.
        level: chance of a wrong verdict where nothing differs. Below `LEVEL` it is the share of one
            of several looks, for all of a claim's differences together.
    """

    session: Session
    out: Path
    earlier: dict[str, float] = field(default_factory=dict)
    kept: tuple[Record, ...] = ()
    since: str = ""
    until: Interrupt | None = None
    used: dict[tuple[str, str], None] = field(default_factory=dict)
    level: float = LEVEL

    @property
    def is_over(self) -> bool:
        """Whether training was to stop at a deadline, and that has passed."""
        return isinstance(self.until, Deadline) and self.until.is_over

    def steps(self, items: Sequence[T], words: str) -> Iterator[T]:
        """Yield items one by one, and show their count and the time left meanwhile."""
        started = now_s()
        with self.session.console.status("") as status:
            for number, item in enumerate(items):
                spent_s = now_s() - started
                left = format_duration(spent_s / number * (len(items) - number)) if number else "?"
                status.update(f"{words} {number + 1} of {len(items)}, {left} left")
                yield item

    def tuned(
        self,
        rows: Mapping[str, dict[str, Any]],
        task: str,
        settings: Mapping[str, Any],
        seeds: Sequence[int],
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
        label = f"{task}{''.join(f' {key}={value}' for key, value in settings.items())}"
        tasks = {label: entry_of("task", task) | dict(settings)}
        config = config_for(self.out, rows, tasks, seeds, plugins)

        def train(cells: Sequence[Cell]) -> dict[str, Record]:
            return self._train(config, [PlannedCell(cell=cell) for cell in cells])

        arms = tuned(trainable(config, self.session), seeds, train)
        for arm in arms.values():
            for seed in seeds:
                if seed not in arm.runs:
                    raise ConfigError(
                        f"{arm.name} on {label} under seed {seed} ended without a score; "
                        f"{self.out}/records says why."
                    )
        return arms

    def _train(self, config: SweepConfig, planned: Sequence[PlannedCell]) -> dict[str, Record]:
        """The newest record of each run, by key; keeps earlier commands' time."""
        trained = self.session.train(
            config, planned, until=self.until, kept=self.kept, since=self.since
        )
        if trained.is_interrupted:
            raise Stopped
        self.earlier |= {
            key: record.result.train_s or 0.0
            for key, record in trained.by_key.items()
            if isinstance(record.result, Quality) and record.sweep != self.session.sweep_id
        }
        for record in trained.by_key.values():
            facts = record.environment
            commit = (facts.get("commit") or "") + "*" * bool(facts.get("is_dirty"))
            self.used[facts.get("processor") or "", commit] = None
        return trained.by_key


def config_for(
    out: Path,
    rows: Mapping[str, dict[str, Any]],
    tasks: Mapping[str, dict[str, Any]],
    seeds: Sequence[int],
    plugins: Sequence[str] = (),
) -> SweepConfig:
    """A sweep of training runs alone, on the CPU, at exactly the given settings.

    Args:
        out: where records go.
        rows: by label, a mechanism and its hyperparameters.
        tasks: by label, a task and its settings.
        seeds: of each run.
        plugins: modules that register mechanisms.
    """
    run = read_yaml(CONF / "sweep.yaml")["run"] | {"task_timeout_s": _LONGEST_S}
    return training_config(rows, tasks, out, seed=seeds, plugins=plugins, device="cpu", run=run)


def row(entry: str, **settings: Any) -> dict[str, Any]:
    """An entry's mechanism and hyperparameters, some of them replaced."""
    return entry_of("attention", entry) | settings


def register_claim(name: str) -> Callable[[Function], Function]:
    """Enter a function under the id of what it tests. A name stands for one function only.

    Raises:
        ValueError: the name is taken.
    """

    def enter(function: Function) -> Function:
        _CLAIMS.enter(name, function, function)
        return function

    return enter
