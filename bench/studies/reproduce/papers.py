"""Published cells, claims and contradictions, as conf/paper/*.yaml describes them. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from bench.core.cli.command import read_yaml
from bench.core.cli.errors import ConfigError, check_known, did_you_mean
from bench.core.cli.limits import Amount
from bench.core.places import CONF
from bench.core.settings import BeforeValidator, Field, Name, Settings, Some, as_tuple
from bench.studies.reproduce.described import (
    Claim,
    Contradiction,
    Described,
    PaperCell,
    Protocol,
)

T = TypeVar("T")

FOLDER = CONF / "paper"


@dataclass(frozen=True)
class Papers:
    """All described entries by id, and all protocols by name, in the order of files and lines."""

    entries: Mapping[str, Described]
    protocols: Mapping[str, Protocol]

    def find(self, name: str) -> Described:
        """Find the entry with an id.

        Raises:
            ConfigError: there is none; the message names the nearest ids.
        """
        if name not in self.entries:
            raise ConfigError(
                f"cell={name} is not described in conf/paper. {_near(name, self.entries)} "
                "`attnbench reproduce` lists all."
            )
        return self.entries[name]

    def of_kind(self, kind: type[T]) -> list[T]:
        """Entries of one kind, in the order of the files."""
        return [entry for entry in self.entries.values() if isinstance(entry, kind)]


def _near(name: str, known: Mapping[str, object]) -> str:
    hint = did_you_mean(name, known)
    return "None has a name like it." if hint.startswith("Known:") else hint


class _Row(Settings, extra="allow"):
    """A row of a printed table, which is a model; its other keys are those of its cells."""

    title: str = ""
    values: Annotated[tuple[Amount | None, ...], BeforeValidator(as_tuple)]
    cost_factor: Amount = 1.0
    deviations: Some[Name] = ()
    protocol_suffix: str = ""


class _Table(Settings, extra="allow"):
    """A table as it is printed: a row per model, a column per protocol; null is no cell.

    Its other keys are those of all its cells, which rows override.
    """

    columns: dict[str, str | None]
    rows: dict[str, _Row]
    deviations: Some[Name] = ()


class _Protocol(Settings, extra="allow"):
    """A protocol as it is written; its other keys are those of `Protocol`."""

    like: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    deviations: Some[Name] = ()


class _File(Settings):
    """A file, with sections of what it describes by name."""

    paper: Name
    protocols: dict[str, _Protocol] = Field(default_factory=dict)
    tables: dict[str, _Table] = Field(default_factory=dict)
    entries: dict[str, dict[str, Any]] = Field(default_factory=dict)


def read_papers(folders: Sequence[Path] = (FOLDER,)) -> Papers:
    """Read all YAML files of some folders.

    Raises:
        ConfigError: a wrong key or value, an id or a protocol given twice, or a reference to an
            unknown entry or protocol; the message names file and key.
    """
    files = [file for folder in folders for file in sorted(folder.glob("*.yaml"))]
    contents = {file: _File.section(read_yaml(file), file.name) for file in files}
    protocols = _protocols(contents)
    entries: dict[str, Described] = {}
    for file, content in contents.items():
        for entry in _entries(file, content, protocols):
            if entry.id in entries:
                raise ConfigError(f"{file} describes {entry.id}, which is described already.")
            entries[entry.id] = entry
    _check_references(entries)
    return Papers(entries, protocols)


def _protocols(contents: Mapping[Path, _File]) -> dict[str, Protocol]:
    """Protocols of all files by name; one may be ``like`` a protocol of another file."""
    given: dict[str, tuple[str, _Protocol]] = {}
    for file, content in contents.items():
        for name, own in content.protocols.items():
            if name in given:
                raise ConfigError(
                    f"{file} describes the protocol {name}, which {given[name][0]} describes "
                    "already. Give it another name."
                )
            given[name] = (file.name, own)
    depth = dict.fromkeys(given, 0)

    def keys_of(name: str, *like: str) -> dict[str, Any]:
        """Keys of a protocol, completed by those of the protocol that it is ``like``.

        The cost is not taken over, nor are facts about the code if it has one of its own. Settings
        are merged, and deviations are added up.
        """
        if name in like:
            raise ConfigError(f"The protocols {', '.join(like)} are like each other in a circle.")
        file, own = given[name]
        keys = {**(own.model_extra or {}), "settings": own.settings, "deviations": own.deviations}
        if own.like is None:
            return keys
        _found(given, own.like, f"{file}: {name}.like")
        base = keys_of(own.like, *like, name)
        depth[name] = depth[own.like] + 1
        code = _CODE_KEYS if any(key in keys for key in _CODE_KEYS) else ()
        kept = {key: value for key, value in base.items() if key not in ("cost", *code)}
        merged = {"settings": base["settings"] | own.settings}
        return kept | keys | merged | {"deviations": (*base["deviations"], *own.deviations)}

    keys = {name: keys_of(name) for name in given}
    return {  # a protocol follows those that it is like
        name: Protocol.section({**keys[name], "name": name}, f"{given[name][0]}: {name}")
        for name in sorted(given, key=lambda name: depth[name])
    }


_CODE_KEYS = ("repository", "commit", "date", "code_reason")


def _found(known: Mapping[str, T], name: Any, key: str) -> T:
    check_known(str(name), known, f"{key}={name} is not known.")
    return known[str(name)]


def _entries(file: Path, content: _File, protocols: Mapping[str, Protocol]) -> Iterator[Described]:
    for prefix, table in content.tables.items():
        for name, row in table.rows.items():
            where = f"{file.name}: {prefix}"
            yield from _cells(where, content.paper, table, name, row, protocols)
    for name, given in content.entries.items():
        own, where = dict(given), f"{file.name}: {name}"
        kind = _found(_KINDS, own.pop("kind", None), f"{where}.kind")
        own |= {"id": name, "paper": own.get("paper") or content.paper}
        if kind is Claim:
            own = {"by": name, **own}
        if kind is PaperCell and (protocol := own.get("protocol")) is not None:
            found = _found(protocols, protocol, f"{where}.protocol")
            own = {"cost": found.cost_s, **own, "protocol": found}
        yield kind.section(own, where)


_KINDS: dict[str, type[Described]] = {kind.kind: kind for kind in get_args(Described)}


def _cells(
    where: str,
    paper: str,
    table: _Table,
    name: str,
    row: _Row,
    protocols: Mapping[str, Protocol],
) -> Iterator[PaperCell]:
    """Cells of a table's row, whose keys override those of the table; deviations of both count."""
    if len(row.values) != len(table.columns):
        raise ConfigError(
            f"{where}.{name} has {len(row.values)} values and the table {len(table.columns)} "
            "columns. Write null where the paper has none."
        )
    for (column, usual), value in zip(table.columns.items(), row.values, strict=True):
        if value is None:
            continue
        own: dict[str, Any] = {
            **(table.model_extra or {}),
            **(row.model_extra or {}),
            "id": f"{where.partition(': ')[2]}-{name}-{column}",
            "paper": paper,
            "what": f"{row.title or name}, {column}",
            "published": value,
            "deviations": (*table.deviations, *row.deviations),
        }
        if usual:
            protocol = _found(protocols, f"{usual}{row.protocol_suffix}", f"{where}.{name}")
            own |= {"protocol": protocol, "cost": protocol.cost_s * row.cost_factor}
        yield PaperCell.section(own, f"{where}.{name}")


def _check_references(entries: Mapping[str, Described]) -> None:
    for entry in entries.values():
        if isinstance(entry, Contradiction):
            for name in entry.of:
                if not isinstance(entries.get(name), PaperCell):
                    raise ConfigError(f"{entry.id} names {name}, and no cell is called that.")
        elif isinstance(entry, PaperCell) and not entry.not_comparable:
            can_run = bool(entry.by) or bool(entry.protocol and entry.attention)
            if not can_run:
                raise ConfigError(
                    f"{entry.id} says neither how it is trained (protocol and attention) or "
                    "measured (by), nor why it is not comparable (not_comparable)."
                )
