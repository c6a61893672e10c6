"""The data of a run: a file of JSON lines, the first of which says what it was made with.

A run is continued by another start with the same settings, the same tested sources and the same
machine; otherwise a new file is begun. Files are named by their start, so the last one is the
newest.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bench
from bench.app.errors import ConfigError
from bench.cell import Cell
from bench.machine.environment import Environment, mechanism_source
from bench.measure.clock import utc_now, utc_stamp
from bench.record import METHOD_VERSION
from bench.selftest.units import id_of

SESSION = "session"
"""The `part` of a line that says who measured what follows, not what was measured."""

_SOURCE = Path(bench.__file__).resolve().parent.parent
_TESTED = (
    "bench/gate/*.py",
    "bench/measure/*.py",
    "bench/selftest/rival*.py",
    *(f"bench/selftest/{name}.py" for name in ("neighbour", "ours", "overhead")),
    *(f"bench/{name}.py" for name in ("run", "jobs", "launch", "worker", "subject", "inputs")),
    "bench/library.py",
    "bench/statistics.py",
)
"""Files that can move a number of the self-test, besides those of the mechanisms."""

FORK = "fork"
ROUNDS = "rounds"
"""Steps of a sweep's jobs besides those that a trial names by itself; see `overhead`."""

UNCHANGED = "unchanged"
"""A rival's side that is not slowed down, among those that go by their number of calls."""

Line = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Session:
    """One start of the command.

    Attributes:
        identity: a hash of all that must be alike for a run to be continued.
        environment: machine, versions and commit, as `Environment.to_dict` gives them.
        command: as typed.
    """

    identity: str
    environment: dict[str, Any]
    settings: dict[str, Any]
    command: str
    started_at: str
    method_version: int = METHOD_VERSION

    def to_dict(self) -> Line:
        """As written to the data."""
        return {"part": SESSION} | vars(self)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a file holds.

    Attributes:
        sessions: the first one began it, later ones went on.
        lines: what was measured, each unit once.
    """

    path: Path
    sessions: tuple[Session, ...]
    lines: tuple[Line, ...]

    @property
    def done(self) -> set[tuple[Any, ...]]:
        """Units that need not be measured again."""
        return {id_of(line) for line in self.lines}


def new_session(
    environment: Environment, settings: dict[str, Any], cells: Iterable[Cell], command: str
) -> Session:
    """What a start of the command, now and here, is made with."""
    mechanisms = {(cell.mechanism, cell.plugins) for cell in cells}
    facts = environment.to_dict()
    alike = {
        "settings": settings,
        "sources": sources(_SOURCE),
        "mechanisms": {name: mechanism_source(name, plugins) for name, plugins in mechanisms},
        "method_version": METHOD_VERSION,
        **{name: facts[name] for name in ("processor", "num_cores", "versions", "allocator")},
    }
    text = json.dumps(alike, sort_keys=True)
    return Session(
        identity=hashlib.sha256(text.encode()).hexdigest()[:16],
        environment=facts,
        settings=json.loads(json.dumps(settings)),
        command=command,
        started_at=utc_now(),
    )


def sources(root: Path) -> str:
    """A hash of the files under test."""
    digest = hashlib.sha256()
    for pattern in _TESTED:
        for file in sorted(root.glob(pattern)):
            digest.update(f"{file.relative_to(root)}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


class Journal:
    """Appends to a run's file; each line is on the disk before the next thing is measured.

    Raises:
        ConfigError: the folder cannot be written to.
    """

    def __init__(self, out: Path, session: Session, *, fresh: bool = False) -> None:
        going_on = None if fresh else _run_of(out, session)
        self.path = going_on.path if going_on else out / f"{utc_stamp()}.jsonl"
        self.done = going_on.done if going_on else set()
        self._session: Session | None = session

    def append(self, line: Line) -> None:
        """Write one line, after the session's own if it is the first."""
        lines = [line] if self._session is None else [self._session.to_dict(), line]
        try:
            if self._session is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                _cut_torn_end(self.path)
                self._session = None
            with self.path.open("ab") as file:
                file.write(b"".join(_to_bytes(one) for one in lines))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ConfigError(
                f"{self.path} cannot be written: {error.strerror}. Free space, or choose another "
                "out=DIR."
            ) from error


def _to_bytes(line: Line) -> bytes:
    return json.dumps(line, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _cut_torn_end(path: Path) -> None:
    """Remove what a crash left of a line."""
    if path.exists():
        content = path.read_bytes()
        os.truncate(path, content.rfind(b"\n") + 1)


def _run_of(out: Path, session: Session) -> Run | None:
    """The newest run that this session may go on with."""
    for path in reversed(_files(out)):
        run = read_run(path)
        if run.sessions and run.sessions[0].identity == session.identity:
            return run
    return None


def newest_run(out: Path) -> Run:
    """The run that was begun last.

    Raises:
        ConfigError: there is none.
    """
    files = _files(out)
    if not files:
        raise ConfigError(f"There is no data in {out}. `make selftest` measures it in an hour.")
    return read_run(files[-1])


def read_run(path: Path) -> Run:
    """A file; a last line that a crash cut short is passed over.

    Raises:
        ConfigError: it is not data of the self-test.
    """
    sessions: list[Session] = []
    lines: dict[tuple[Any, ...], Line] = {}
    for line in _lines(path):
        if line.get("part") == SESSION:
            sessions.append(Session(**{k: v for k, v in line.items() if k != "part"}))
        else:
            lines[id_of(line)] = line
    if lines and not sessions:
        raise ConfigError(f"{path} does not begin as data of the self-test does. Move it away.")
    return Run(path=path, sessions=tuple(sessions), lines=tuple(lines.values()))


def _lines(path: Path) -> Iterator[Line]:
    *whole, _ = path.read_text().split("\n")  # what follows the last line end is torn, or empty
    for number, text in enumerate(whole, start=1):
        try:
            yield json.loads(text)
        except ValueError as error:
            raise ConfigError(
                f"{path}:{number} is not JSON ({error}). Move {path} away."
            ) from error


def _files(out: Path) -> list[Path]:
    return sorted(out.glob("*.jsonl"))
