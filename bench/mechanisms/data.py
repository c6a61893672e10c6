"""The observed samples: one JSON file that is written as a whole after every unit.

It is continued by another start with the same settings, the same sources and the same machine, and
begun anew otherwise.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.app.errors import ConfigError
from bench.app.files import write_whole
from bench.machine.environment import Environment, mechanism_source
from bench.measure.clock import utc_now
from bench.mechanisms.units import id_of
from bench.record import METHOD_VERSION

FILE = "mechanisms.json"

Line = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Session:
    """With what was measured.

    Attributes:
        identity: a hash of all that must be alike for a file to be continued.
        environments: machine, versions, commit and calibration, by the workers' allocator.
        command: as typed.
    """

    identity: str
    environments: dict[str, dict[str, Any]]
    settings: dict[str, Any]
    command: str
    started_at: str
    method_version: int = METHOD_VERSION


@dataclass(kw_only=True)
class Measured:
    """A file's content.

    Attributes:
        lines: what was observed, a unit each.
    """

    path: Path
    session: Session
    lines: list[Line] = field(default_factory=list)

    @property
    def done(self) -> set[tuple[Any, ...]]:
        """Units that need not be measured again; one that failed may have had outside reasons."""
        return {id_of(line) for line in self.lines if line["reason"] is None}

    def add(self, line: Line) -> None:
        """Put a line in its unit's place, and write the file."""
        self.lines = [old for old in self.lines if id_of(old) != id_of(line)] + [line]
        self.write()

    def write(self) -> None:
        """Write the file, as a whole."""
        # A line of text for a unit: a change of one unit is a change of one line.
        units = ",\n".join(json.dumps(one, allow_nan=False) for one in self.lines)
        session = json.dumps(asdict(self.session), indent=1, allow_nan=False)
        write_whole(self.path, f'{{"session": {session},\n"units": [\n{units}\n]}}\n')


def new_session(
    environments: Mapping[str, Environment],
    settings: dict[str, Any],
    mechanisms: Iterable[str],
    command: str,
) -> Session:
    """What a start of the command, now and here, is made with."""
    facts = {name: one.to_dict() for name, one in environments.items()}
    alike = ("processor", "num_cores", "versions", "worker_environment")
    identity = {
        "settings": settings,
        "sources": {name: mechanism_source(name, ()) for name in sorted(set(mechanisms))},
        "method_version": METHOD_VERSION,
        "machine": {name: [one[fact] for fact in alike] for name, one in facts.items()},
    }
    text = json.dumps(identity, sort_keys=True)
    return Session(
        identity=hashlib.sha256(text.encode()).hexdigest()[:16],
        environments=facts,
        settings=json.loads(json.dumps(settings)),
        command=command,
        started_at=utc_now(),
    )


def begin(out: Path, session: Session, *, fresh: bool) -> Measured:
    """The stored measurements if this session may go on with them, else none."""
    path = out / FILE
    if not fresh and path.exists():
        stored = read_measured(out)
        if stored.session.identity == session.identity:
            return stored
    return Measured(path=path, session=session)


def read_measured(out: Path) -> Measured:
    """What is stored.

    Raises:
        ConfigError: nothing is, or the file is damaged.
    """
    path = out / FILE
    try:
        content = json.loads(path.read_text())
        return Measured(
            path=path, session=Session(**content["session"]), lines=list(content["units"])
        )
    except FileNotFoundError as error:
        raise ConfigError(
            f"There is no {path}. `make bench-mechanisms` measures it in an hour or two."
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is damaged ({error!r}). Move it away.") from error
