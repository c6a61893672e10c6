"""One run of a command: what is given to it besides its settings, from the console to exit codes.

`run_study` composes and checks settings, and hands a study its `Session`: console, machine, worker
server, progress, Ctrl-C, and training or timing that is stored. Torch is imported only with what
needs it, so that a list or a message is there at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from rich.console import Console

from bench.core.cell import Cell
from bench.core.cli.command import run_app
from bench.core.cli.errors import ConfigError
from bench.core.cli.files import check_writable
from bench.core.cli.values import command_line
from bench.core.clock import now_s, utc_now
from bench.core.format import format_duration, quantity
from bench.core.places import CONF
from bench.core.progress import Unit, UnitProgress
from bench.core.record import Record
from bench.core.roots import root_of
from bench.core.settings import Settings
from bench.core.store import Tail, read_records
from bench.measuring.config import SweepConfig, training_config
from bench.measuring.device import available_devices
from bench.measuring.machine import environment
from bench.measuring.machine.environment import Environment
from bench.measuring.worker.jobs import Interrupt, Interrupted
from bench.measuring.worker.launch import WorkerServer
from bench.publishing.charts.spec import Chart
from bench.publishing.charts.write import Illustrated, figures_of, write_pictures
from bench.publishing.document import Document, write
from bench.publishing.machine import machine_in_words
from bench.publishing.printed import print_document

if TYPE_CHECKING:
    from bench.measuring.plan import PlannedCell
    from bench.measuring.tasks.model import Backbone

S = TypeVar("S", bound=Settings)
U = TypeVar("U", bound=Unit)

STOPPED = 130
"""Exit code after Ctrl-C."""
WIDTH_WITHOUT_TERMINAL = 200
"""Columns of tables in a log."""


class Stopped(Exception):
    """Ctrl-C or a deadline came while something was trained; what had ended is kept."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Result of training or timing some planned cells.

    Attributes:
        records: of the planned cells that have ended, now or earlier, in order of their start.
        cut_off: cells that have no record.
        is_interrupted: by Ctrl-C or a deadline.
    """

    records: tuple[Record, ...]
    cut_off: tuple[Cell, ...]
    is_interrupted: bool

    @property
    def by_key(self) -> dict[str, Record]:
        """The newest record of each cell."""
        return {record.cell.key: record for record in self.records}


class Session:
    """Everything that a study is given besides its settings; a context manager, which ends workers.

    Args:
        name: the command.
        composed: its whole configuration, as `bench.core.cli.command` hands it over.

    Attributes:
        composed: likewise.
        console: where everything is said.
        notes: sentences on what is missing, for the page.
        is_stopped: whether Ctrl-C came.
    """

    def __init__(self, name: str, composed: Mapping[str, Any]) -> None:
        console = Console()
        self.console = console if console.is_terminal else Console(width=WIDTH_WITHOUT_TERMINAL)
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
        """The machine, as far as its CPU is concerned and as a process without workers sees it."""
        return environment.current(("cpu",), "default", {})

    def server(self, config: SweepConfig) -> WorkerServer:
        """The server that forks workers, started when it is first asked for."""
        if (allocator := config.run.allocator) not in self._servers:
            self._servers[allocator] = WorkerServer(allocator)
        return self._servers[allocator]

    def command(self, *without: str) -> str:
        """The command line that gives these settings, without where its files go.

        Args:
            without: further keys to leave out, besides ``out``.
        """
        words = command_line(self.name, self.composed, without=without)
        file = Path(getattr(sys.modules["__main__"], "__file__", None) or "")
        if file.stem == self.name and file.parent.name != "bench":  # a study in its user's folder
            return words.replace(f"attnbench {self.name}", f"python {file.name}", 1)
        return words

    @cached_property
    def place(self) -> str:
        """Machine, commit and date, as words for a page."""
        here = self.machine
        commit = (here.commit or "unknown")[:7]
        return f"{machine_in_words(here.to_dict())}, commit {commit}, {utc_now()[:10]}"

    def origin(self) -> str:
        """`place` and the wall time so far."""
        return f"{self.place}, {format_duration(self.wall_s)} of wall time"

    def say(self, words: str) -> None:
        """Print a line; nothing in it is markup."""
        self.console.print(words, markup=False, highlight=False, soft_wrap=True)

    def note(self, words: str) -> None:
        """Print a line that a page repeats."""
        self.say(words)
        self.notes.append(words)

    def status(self, words: str) -> None:
        """Say on a terminal what goes on within a unit of `each`."""
        if self._progress:
            self._progress.say(words)

    def write(self, document: Document, path: Path) -> None:
        """Write a file by its ending, and say so.

        Raises:
            ConfigError: it cannot be written.
        """
        self.say(f"wrote {write(document, path)}")

    def show(self, document: Document) -> None:
        """Print texts and tables."""
        print_document(document, self.console)

    def publish(self, page: Path, charts: Iterable[Chart], document_of: Illustrated) -> None:
        """Show a document, and write it with its pictures, which lie in a folder of its name.

        Raises:
            ConfigError: a file cannot be written.
        """
        drawn, note = write_pictures(charts, page.with_suffix(""))
        self.notes += [note] if note else []
        for _, file in drawn:
            self.say(f"wrote {file}")
        document = document_of(figures_of(drawn))
        self.show(document)
        self.write(document, page)

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
        """Go through units with progress. Ctrl-C ends the block, and what is done is kept.

        ``with session.each(runs, "model") as todo: for run in todo: ...``

        Args:
            units: all of them.
            noun: what one is called, for a note on how many were done.
            line_every_s: without a terminal, the least time between two lines.
            until: takes Ctrl-C as a question that is asked after each unit.
            within_s: no unit begins that is expected to end later than this from now.
            goes_on: whether the same command, given again, goes on from where it was stopped.
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

    def trained(self, cell: Cell, folder: Path, name: str = "") -> Backbone:
        """Train a cell's model in this process, or go on from where it stands in the folder.

        Args:
            cell: a training run.
            folder: of checkpoints.
            name: of the run, for the line of progress.

        Raises:
            ConfigError: the checkpoint is of another configuration, or none.
            Diverged: training left the finite numbers.
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
        """Train or time this command's rows as a sweep would; `seq_len` or `task` says at what.

        Args:
            out: the store.
            task: settings of each, as ``{"recall": {"task": "recall", "num_steps": 600}}``.
            changes: settings of `bench.sweep`, in place of those of conf/sweep.yaml.

        Raises:
            ConfigError: a setting that a sweep does not take, or a store that cannot be used.
        """
        config = training_config(self.composed["attention"], task or {}, out, **changes)
        return self.train(config, self.plan(config))

    def plan(self, config: SweepConfig) -> tuple[PlannedCell, ...]:
        """The cells of a sweep.

        Raises:
            ConfigError: one cannot be.
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
        """Train or time those of some planned cells that the store lacks, as a sweep does it.

        Args:
            config: says how, and the store that new records go to.
            planned: the cells.
            until: when to stop; at Ctrl-C if None.
            kept: records of other stores that count as this one's.
            since: records that started earlier count for nothing; UTC, ISO 8601, or empty.

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
        own = [r for r in stored() if r.cell.key in cells and environment.is_good(r, r.cell, here)]
        ended = {record.cell.key for record in own}
        self.is_stopped |= done.is_interrupted
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
        settings: its model, which stands in the place of ``conf/<name>.yaml`` if there is none.
        study: what it does.
        argv: its words; those of this process if None.
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
