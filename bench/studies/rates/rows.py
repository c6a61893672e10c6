"""Rows on tasks, and their runs at several learning rates."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from bench.core.cell import Cell
from bench.core.cli.command import run_app
from bench.core.cli.errors import ConfigError
from bench.core.cli.streams import exit_code, make_streams_unbreakable
from bench.core.clock import now_s
from bench.core.grid import Best, Trained, best_of
from bench.core.record import Record
from bench.measuring.config import SweepConfig
from bench.measuring.plan import PlannedCell
from bench.measuring.tasks.base import task_class
from bench.measuring.worker.jobs import Deadline
from bench.publishing.searched import trained as trained
from bench.studies.session import Session, Stopped

USUAL = {
    "attention": "[softmax,linear,performer,performer_relu,flatten,nala,gla,"
    "gated_deltanet,uniform,none]",
    "task": "[recall,recall_causal,tile_recall]",
    "seq_len": "[]",
    "require_ok": "false",
}
"""Defaults of `bench.sweep`: the rows and tasks of `make bench`."""


@dataclass(frozen=True, kw_only=True)
class TaskRow:
    """A row on a task, with the rates to train it at, the one to begin with first.

    Attributes:
        cell: as a sweep would plan it, with the first of its seeds.
    """

    cell: Cell
    rates: tuple[float, ...]

    @property
    def name(self) -> str:
        """As ``nala on recall``."""
        return f"{self.cell.entry} on {self.cell.task.label}"

    @property
    def shared_rate(self) -> float:
        """Rate of rows without a rate of their own."""
        return float(self.cell.task.shared_settings["learning_rate"])

    def at(self, rate: float, seed: int = 0, *, shared_rate: float | None = None) -> Cell:
        """The same run at another rate, with another seed.

        Args:
            rate: the learning rate.
            seed: of all randomness.
            shared_rate: see `bench.core.cell.TaskWorkload`.
        """
        work = self.cell.task
        settings = work.settings | {"learning_rate": rate}
        work = replace(work, settings=settings, seed=seed, shared_rate=shared_rate)
        return replace(self.cell, workload=work)

    def searched_at(self, rate: float, seed: int) -> Cell:
        """A run of a search, whose cell also records the rate of rows without a search."""
        return self.at(rate, seed, shared_rate=self.shared_rate)

    def runs(self, seed: int) -> list[Cell]:
        """The runs of a search with one seed, by rising rate."""
        return [self.searched_at(rate, seed) for rate in self.rates]


def longer(cell: Cell, factor: int) -> Cell:
    """The same run with so many times the steps."""
    work = cell.task
    steps = {"num_steps": factor * int(work.settings["num_steps"])}
    return replace(cell, workload=replace(work, settings=work.settings | steps))


_UNREAD = {"force", "only", "shard", "timings"}
"""Keys of `bench.sweep` that would change nothing."""

Train = Callable[[Sequence[Cell]], Mapping[str, Record]]
"""Trains cells that are not stored yet; returns the newest good record of each, by key."""


@contextmanager
def trainer(
    config: SweepConfig,
    session: Session,
    within_s: float | None = None,
    found: dict[str, Record] | None = None,
) -> Iterator[Train]:
    """Give a block a function that trains cells; Ctrl-C or the end of the time leaves the block.

    Args:
        config: settings of the training runs, and the store.
        session: of the command.
        within_s: from now, in seconds; None for no end.
        found: gets the records of all cells, also of a training that Ctrl-C or the end stops.
    """
    until = Deadline(math.inf if within_s is None else now_s() + within_s)

    def train(cells: Sequence[Cell]) -> Mapping[str, Record]:
        done = session.train(config, [PlannedCell(cell=cell) for cell in cells], until=until)
        if found is not None:
            found.update(done.by_key)
        if done.is_interrupted:
            raise Stopped
        return done.by_key

    try:
        yield train
    except Stopped:
        why = "The time is over." if until.is_over else "Stopped."
        session.say(f"{why} The same command goes on from here.")
    session.is_stopped &= not until.is_over


def trainable(config: SweepConfig, session: Session) -> list[Cell]:
    """A cell for each row and task that can be trained, planned as a sweep plans it.

    Rows that cannot be are printed, with the reason.
    """
    planned = session.plan(config.but(axes=config.axes.but(seq_len=(), seed=(0,))))
    for one in planned:
        if one.unsupported is not None:
            session.say(f"{one.cell.entry} is left out on {one.cell.task.label}: {one.unsupported}")
    return [p.cell for p in planned if p.unsupported is None]


def best(row: TaskRow, runs: Mapping[float, Trained]) -> Best:
    """The best rate of a row, by the validation scores of its runs."""
    return best_of(runs, better=task_class(row.cell.task.task).better)


def widened(row: TaskRow, runs: Mapping[float, Trained]) -> TaskRow:
    """The row with one more rate, if all its rates are trained and the best lies at their edge."""
    if len(runs) < len(row.rates) or (beyond := best(row, runs).beyond) is None:
        return row
    return replace(row, rates=tuple(sorted({*row.rates, beyond})))


Command = Callable[[dict[str, Any], dict[str, str]], int]
"""Takes the composed configuration of a sweep, and the command's own words."""


def run_command(
    argv: list[str] | None,
    usage: str,
    own_keys: Collection[str],
    usual: dict[str, str],
    command: Command,
) -> int:
    """Run a command that takes some keys of its own beside those of a sweep.

    Args:
        argv: words of the command line; those of this process if None.
        usage: printed for ``--help``.
        own_keys: keys that the command takes itself, as text.
        usual: defaults that differ from `USUAL`, or come beside it.
        command: called with the composed sweep and the command's own keys.

    Returns:
        The exit code.
    """
    make_streams_unbreakable()
    words = sys.argv[1:] if argv is None else argv
    if {"-h", "--help"} & set(words):
        print(usage)
        return exit_code(0)
    pairs = [word.partition("=") for word in words]
    own = {key: value for key, _, value in pairs if key in own_keys}
    rest = [word for word in words if word.partition("=")[0] not in own_keys]
    given = {word.partition("=")[0] for word in rest}
    defaults = [f"{key}={value}" for key, value in (USUAL | usual).items() if key not in given]

    def checked(composed: dict[str, Any]) -> int:
        if unread := sorted(given & _UNREAD):
            raise ConfigError(
                f"{unread[0]}= is of sweep alone: here all rows are trained, and what is stored is "
                "not trained again. Leave it out."
            )
        return command(composed, own)

    return run_app("sweep", checked, [*defaults, *rest])
