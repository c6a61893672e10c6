"""One run of a command: everything but its settings, from the console to exit codes.

`run_study` composes and checks settings, and gives a study its `Session`: console, machine, worker
server, progress, Ctrl-C, and training or timing that is stored. Torch is imported only where it is
needed, so that lists and messages appear at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from bench.core.cell import Cell
from bench.core.cli.command import run_app
from bench.core.cli.errors import ConfigError
from bench.core.cli.files import check_writable
from bench.core.cli.streams import console
from bench.core.cli.values import command_line
from bench.core.clock import now_s, utc_now
from bench.core.format import format_duration, quantity
from bench.core.places import CONF
from bench.core.progress import Part, Unit, UnitProgress
from bench.core.record import Record
from bench.core.settings import Settings
from bench.core.store import Tail, read_records
from bench.measuring.config import SweepConfig, training_config
from bench.measuring.device import available_devices
from bench.measuring.machine import environment
from bench.measuring.machine.environment import Environment
from bench.measuring.worker.jobs import Deadline, Interrupt, Interrupted
from bench.measuring.worker.launch import WorkerServer
from bench.publishing.charts.write import write_illustrated
from bench.publishing.document import Document, write
from bench.publishing.machine import machine_in_words
from bench.publishing.naming import commit_label, commits_in_words
from bench.publishing.terminal import print_document
from bench.studies.roots import root_of

if TYPE_CHECKING:
    from bench.measuring.plan import PlannedCell
    from bench.measuring.tasks.model import Backbone

S = TypeVar("S", bound=Settings)
U = TypeVar("U", bound=Unit)

STOPPED = 130
"""Exit code after Ctrl-C."""


class Stopped(Exception):
    """Ctrl-C or a deadline interrupted training; runs that had ended are kept."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Result of training or timing some planned cells.

    Attributes:
        records: of the planned cells that have ended, now or earlier, in order of their start.
        cut_off: cells that have no record.
        is_interrupted: whether Ctrl-C or a deadline interrupted it.
    """

    records: tuple[Record, ...]
    cut_off: tuple[Cell, ...]
    is_interrupted: bool

    @property
    def by_key(self) -> dict[str, Record]:
        """The newest record of each cell."""
        return {record.cell.key: record for record in self.records}


class Session:
    """Everything that a study is given besides its settings; a context manager that ends workers.

    Args:
        name: the command.
        composed: its whole configuration, from `bench.core.cli.command`.

    Attributes:
        name, composed: the arguments.
        console: prints all output.
        notes: sentences on what is missing, for the page.
        is_stopped: whether the study was interrupted, which gives the exit code `STOPPED`.
    """

    def __init__(self, name: str, composed: Mapping[str, Any]) -> None:
        self.console = console()
        self.name, self.composed = name, composed
        self.notes: list[str] = []
        self.is_stopped = False
        self._began_s = now_s()
        self._progress: UnitProgress | None = None
        self._servers: dict[str, WorkerServer] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers.values():
            server.stop()

    @property
    def sweep_id(self) -> str:
        """Identifier of the sweep, which new records keep."""
        return str(self.composed["sweep_id"])

    @property
    def wall_s(self) -> float:
        """Seconds since the session began."""
        return now_s() - self._began_s

    @cached_property
    def machine(self) -> Environment:
        """Environment of this process, without workers and for the CPU alone."""
        return environment.current(("cpu",), "default", {})

    def server(self, config: SweepConfig) -> WorkerServer:
        """The server that forks workers with the configured allocator, started on first use."""
        if (allocator := config.run.allocator) not in self._servers:
            self._servers[allocator] = WorkerServer(allocator)
        return self._servers[allocator]

    def command(self, *without: str) -> str:
        """The command line of these settings, without ``out``.

        Args:
            without: further keys to leave out.
        """
        words = command_line(self.name, self.composed, without=without)
        file = Path(getattr(sys.modules["__main__"], "__file__", None) or "")
        if file.stem == self.name and file.parent.name != "bench":  # a study in its user's folder
            return words.replace(f"attnbench {self.name}", f"python {file.name}", 1)
        return words

    @cached_property
    def place(self) -> str:
        """Machine, commit and date, as text for a page."""
        here = self.machine
        commit = commits_in_words([commit_label(here.commit, here.is_dirty)])
        return f"{machine_in_words(here.to_dict())}, {commit}, {utc_now()[:10]}"

    def origin(self) -> str:
        """`place` and the wall time so far."""
        return f"{self.place}, {format_duration(self.wall_s)} of wall time"

    def say(self, words: str) -> None:
        """Print a line literally, without markup."""
        self.console.print(words, markup=False, highlight=False, soft_wrap=True)

    def note(self, words: str) -> None:
        """Print a line, and keep it for the page."""
        self.say(words)
        self.notes.append(words)

    def status(self, words: str) -> None:
        """Show the progress within a unit of `each` on a terminal."""
        if self._progress:
            self._progress.say(words)

    def write(self, document: Document, path: Path) -> None:
        """Write a document in the format of the path's suffix, and print the path.

        Raises:
            ConfigError: it cannot be written.
        """
        self.say(f"wrote {write(document, path)}")

    def show(self, document: Document) -> None:
        """Print texts and tables."""
        print_document(document, self.console)

    def publish(self, document: Document, page: Path) -> None:
        """Show a document, and write it, with its charts as pictures in a folder of its name.

        Raises:
            ConfigError: a file cannot be written.
        """
        self.show(document)
        for file in write_illustrated(document, page):
            self.say(f"wrote {file}")

    @contextmanager
    def each(
        self,
        units: Sequence[U],
        noun: str = "unit",
        *,
        line_every_s: float = 0.0,
        until: Interrupt | None = None,
        within_s: float | None = None,
        goes_on: bool = True,
    ) -> Iterator[Iterator[U]]:
        """Iterate over units with progress. Ctrl-C ends the block; finished units are kept.

        ``with session.each(runs, "model") as todo: for run in todo: ...``

        Args:
            units: all units.
            noun: name of a unit, for a note on how many were finished.
            line_every_s: without a terminal, the shortest time between two lines.
            until: if given, Ctrl-C ends the block only after the current unit.
            within_s: no unit begins that is expected to end later than this from now, in seconds.
            goes_on: whether the same command can be resumed, for the message.
        """
        done: list[U] = []
        ends_s = None if within_s is None else now_s() + within_s

        def one_by_one(progress: UnitProgress) -> Iterator[U]:
            for unit in units:
                if ends_s is not None and now_s() + progress.expected_s(unit) > ends_s:
                    self.say(
                        f"No further {noun} would end within {format_duration(within_s or 0)}."
                    )
                    return
                progress.begin(unit)
                yield unit
                done.append(unit)
                progress.finish(unit)
                if until is not None and until.is_asked:
                    raise Interrupted

        try:
            with (
                until or nullcontext(),
                UnitProgress(self.console, units, line_every_s=line_every_s) as self._progress,
            ):
                yield one_by_one(self._progress)
        except (KeyboardInterrupt, Interrupted):
            self.is_stopped = True
            self.say("Stopped. The same command goes on from here." if goes_on else "Stopped.")
            self.notes.append(f"Stopped after {len(done)} of {quantity(len(units), noun)}.")
        finally:
            self._progress = None

    def one_by_one(self, names: Iterable[str], noun: str, work: Callable[[str], str]) -> None:
        """Do some work for each name with progress, as `each`; it says how it ended."""
        with self.each([Part(name=name) for name in names], noun, goes_on=False) as todo:
            for part in todo:
                part.outcome = work(part.name)

    def trained(self, cell: Cell, folder: Path, name: str = "") -> Backbone:
        """Train a cell's model in this process, or resume it from its checkpoint.

        Args:
            cell: a training run.
            folder: of checkpoints.
            name: of the run, for the line of progress.

        Raises:
            ConfigError: the file is a checkpoint of another configuration, or is not a checkpoint.
            Diverged: a loss is not finite.
        """

        def report(phase: str, step: int, num_steps: int, *_: Any) -> None:
            self.status(f"{name or cell.describe()}: step {step} of {num_steps}")

        from bench.measuring.tasks.checkpoint import Checkpoint, CheckpointRefused
        from bench.measuring.tasks.train import fitted

        source = environment.source_of_training(cell, self.machine)
        checkpoint = Checkpoint(folder / f"{cell.key}.pt", cell.key, source)
        try:
            return fitted(cell, report, checkpoint)
        except CheckpointRefused as error:
            raise ConfigError(str(error)) from error

    def sweep(self, out: Path, task: Mapping[str, Any] | None = None, **changes: Any) -> Trained:
        """Train or time this command's rows as a sweep would, on `task` or at `seq_len`.

        Args:
            out: the store.
            task: settings of each task, e.g. ``{"recall": {"task": "recall", "num_steps": 600}}``.
            changes: settings of `bench.sweep` in place of those of conf/sweep.yaml, e.g. `seq_len`.

        Raises:
            ConfigError: a setting that a sweep does not take, or a store that cannot be used.
        """
        config = training_config(self.composed["attention"], task or {}, out, **changes)
        return self.train(config, self.plan(config))

    def plan(self, config: SweepConfig) -> tuple[PlannedCell, ...]:
        """The cells of a sweep.

        Raises:
            ConfigError: one is not valid, for example by a hyperparameter that does not exist.
        """
        from bench.measuring.plan import plan

        return plan(config, self.server(config))

    def here(self, config: SweepConfig, devices: Iterable[str]) -> Environment:
        """The machine as workers on these devices see it; devices that it lacks are left out."""
        present = available_devices()
        own = tuple(device for device in dict.fromkeys(devices) if device in present)
        server = self.server(config)
        return environment.current(own, config.run.allocator, server.environment())

    def train(
        self,
        config: SweepConfig,
        planned: Sequence[PlannedCell],
        *,
        until: Interrupt | None = None,
        kept: Sequence[Record] = (),
        since: str = "",
    ) -> Trained:
        """Train or time the planned cells that the store lacks, as a sweep does.

        Args:
            config: settings of the sweep, with the store for new records.
            planned: the cells.
            until: when to stop; at Ctrl-C if None.
            kept: records of other stores that count as this one's.
            since: records that started earlier are ignored; UTC, ISO 8601, or empty.

        Raises:
            ConfigError: the store cannot be read or written.
        """
        from bench.measuring.engine import measure
        from bench.measuring.todo import missing

        here = self.here(config, (p.cell.device for p in planned))
        tail = Tail(config.out)

        def stored() -> list[Record]:
            records = (*kept, *read_records(config.out, missing_ok=True))
            return [record for record in records if record.started_at >= since]

        todo, server = missing(planned, stored(), here, config), self.server(config)
        done = measure(
            config, todo, here, server, self.sweep_id, self.console, until=until, tail=tail
        )
        cells = {p.cell.key: p.cell for p in planned}
        pairs = ((record, cells.get(record.cell.key)) for record in stored())
        own = [record for record, cell in pairs if cell and environment.is_good(record, cell, here)]
        ended = {record.cell.key for record in own}
        is_over = isinstance(until, Deadline) and until.is_over
        self.is_stopped |= done.is_interrupted and not is_over
        return Trained(
            records=tuple(sorted(own, key=lambda record: record.started_at)),
            cut_off=tuple(cell for key, cell in cells.items() if key not in ended),
            is_interrupted=done.is_interrupted,
        )


Study = Callable[[S, Session], int | None]
"""Runs a command; its exit code, None for 0."""


def run_study(
    name: str,
    settings: type[S],
    study: Study[S],
    argv: list[str] | None = None,
    writes: Sequence[str] = ("out", "docs"),
    out_is_file: bool = False,
) -> int:
    """Compose and check the settings of a command, and run it.

    Modules that its ``plugins`` name are imported first.

    Args:
        name: the command.
        settings: model of its settings, which also replaces a missing ``conf/<name>.yaml``.
        study: function that does the work.
        argv: arguments of the command; those of this process if None.
        writes: keys of folders that have to be writable.
        out_is_file: whether ``out`` names a file and not a folder.

    Returns:
        The exit code: 130 after Ctrl-C, else the study's.
    """

    def command(composed: dict[str, Any]) -> int:
        asked = settings.read(composed)
        if plugins := getattr(asked, "plugins", ()):
            from bench.measuring.plugins import import_plugins

            import_plugins(plugins)
        for key in writes:
            if folder := getattr(asked, key, None):
                check_writable(folder.parent if out_is_file and key == "out" else folder, key)
        with Session(name, composed) as session:
            code = study(asked, session) or 0
        return STOPPED if session.is_stopped else code

    has_yaml = (CONF / f"{name}.yaml").exists()
    root = None if has_yaml else root_of(settings, out_is_file=out_is_file)
    return run_app(name, command, argv, root=root, out_is_file=out_is_file)
