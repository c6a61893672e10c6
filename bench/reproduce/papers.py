"""Published cells, sentences and contradictions, as conf/paper/*.yaml describes them. No torch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.app.command import CONF, read_yaml
from bench.app.errors import ConfigError, did_you_mean
from bench.app.values import Values, duration, flag, number, text, word
from bench.reproduce.described import (
    Claim,
    Code,
    Contradiction,
    Described,
    Kind,
    PaperCell,
    Protocol,
    Read,
)

__all__ = [
    "FOLDER",
    "Claim",
    "Code",
    "Contradiction",
    "Described",
    "Kind",
    "PaperCell",
    "Papers",
    "Protocol",
    "Read",
    "read_papers",
]

FOLDER = CONF / "paper"


@dataclass(frozen=True)
class Papers:
    """Everything that is described, by id, in the order of files and lines."""

    entries: Mapping[str, Described]
    protocols: Mapping[str, Protocol]

    def find(self, name: str) -> Described:
        """What an id describes.

        Raises:
            ConfigError: nothing; the message names the nearest ids.
        """
        if name not in self.entries:
            raise ConfigError(
                f"cell={name} is not described in conf/paper. {_near(name, self.entries)} "
                "`python -m bench.reproduce` lists all."
            )
        return self.entries[name]

    def of_kind(self, kind: Kind) -> list[Described]:
        """In the order of the files."""
        return [entry for entry in self.entries.values() if entry.kind is kind]


def _near(name: str, known: Mapping[str, object]) -> str:
    hint = did_you_mean(name, known)
    return "None has a name like it." if hint.startswith("Known:") else hint


def read_papers(folders: Sequence[Path] = (FOLDER,)) -> Papers:
    """All YAML files of some folders.

    Raises:
        ConfigError: one says something that cannot be read; the message names file and key.
    """
    files = [file for folder in folders for file in sorted(folder.glob("*.yaml"))]
    contents = {file: read_yaml(file) for file in files}
    for file, content in contents.items():
        for unknown in (str(key) for key in content if key not in _FILE_KEYS):
            hint = did_you_mean(unknown, _FILE_KEYS)
            raise ConfigError(f"{file}: {unknown} is not a key of a paper. {hint}")
    protocols = _protocols(contents)
    entries: dict[str, Described] = {}
    for file, content in contents.items():
        for entry in _entries(file, content, protocols):
            if entry.id in entries:
                raise ConfigError(f"{file} describes {entry.id}, which is described already.")
            entries[entry.id] = entry
    _check_references(entries)
    return Papers(entries, protocols)


def _section(file: Path, content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    given = content.get(key) or {}
    if not isinstance(given, Mapping):
        raise ConfigError(f"{file}: {key} is {given!r}; it has names with keys below them.")
    return given


def _protocols(contents: Mapping[Path, Mapping[str, Any]]) -> dict[str, Protocol]:
    """Those of all files; one may be like one of another file."""
    waiting = {
        str(name): (file, given)
        for file, content in contents.items()
        for name, given in _section(file, content, "protocols").items()
    }
    known: dict[str, Protocol] = {}
    while waiting:
        ready = [
            name
            for name, (_, given) in waiting.items()
            if not isinstance(given, Mapping) or given.get("like") not in waiting
        ]
        if not ready:
            raise ConfigError(
                f"The protocols {', '.join(waiting)} are like each other in a circle."
            )
        for name in ready:
            known[name] = _protocol(waiting[name][0], name, waiting.pop(name)[1], known)
    return known


def _protocol(file: Path, name: str, given: Any, known: Mapping[str, Protocol]) -> Protocol:
    values = _values(file, name, given, _PROTOCOL_KEYS)
    like = values.optional("like", word(known.keys()))
    base = known[like] if like else None
    settings = dict(base.settings if base else {}) | dict(values.section("settings").given)
    grid = {key: tuple(_list(found)) for key, found in values.section("grid").given.items()}
    steps = values.given.get("steps_per_epoch", base.steps_per_epoch if base else None)
    deviations = tuple(map(str, _list(values.given.get("deviations"))))
    return Protocol(
        name=name,
        task=values.optional("task", text) or (base.task if base else values.one("task", text)),
        settings=settings,
        variants=tuple(values.given.get("variants") or (base.variants if base else ({},))),
        grid=grid or (base.grid if base else {}),
        steps_per_epoch=steps,
        cost_s=values.one("cost", duration),
        code=_code(values, base),
        deviations=(*(base.deviations if base else ()), *deviations),
    )


def _code(values: Values, base: Protocol | None) -> Code | None:
    """Own repository, commit and date; of the protocol that it is like where none is named."""
    if base is not None and not any(key in values.given for key in _CODE_KEYS):
        return base.code
    # YAML may have read an unquoted commit of digits, or a date, as something else than words.
    repository, commit, date, reason = (str(values.given.get(key) or "") for key in _CODE_KEYS)
    if not repository or not commit or not re.fullmatch(r"\d{4}-\d\d-\d\d", date):
        raise ConfigError(
            f"{values.prefix}repository={repository}, commit={commit}, date={date}: a protocol "
            "names all three of the code that it follows, the date as 2024-05-02. Where the commit "
            "cannot be known write commit: unknown and code_reason: why."
        )
    is_known = re.fullmatch(r"[0-9a-f]{7,40}", commit) is not None
    if not is_known and (commit != "unknown" or not reason):
        raise ConfigError(
            f"{values.prefix}commit={commit} is no commit of hexadecimal digits. Where it cannot "
            "be known write commit: unknown and code_reason: why."
        )
    return Code(repository=repository, commit=commit, date=date, reason=reason)


_FILE_KEYS = ("paper", "protocols", "tables", "entries")
_CODE_KEYS = ("repository", "commit", "date", "code_reason")
_PROTOCOL_KEYS = (
    *_CODE_KEYS,
    *("like", "task", "settings", "variants", "grid"),
    *("steps_per_epoch", "cost", "deviations"),
)
_CELL_KEYS = (
    *("kind", "where", "what", "attention", "hyperparameters", "protocol", "by", "settings"),
    *("published", "percent", "tolerance", "read", "not_comparable", "cost", "deviations"),
)
_CLAIM_KEYS = (*("kind", "paper", "where", "sentence", "refuted_by", "by", "settings", "cost"),)
_CONTRADICTION_KEYS = ("kind", "what", "values", "of", "note")
_TABLE_KEYS = (
    *("where", "columns", "rows", "percent", "tolerance", "read", "not_comparable"),
    "deviations",
)
_ROW_KEYS = (
    *("title", "attention", "hyperparameters", "values", "cost_factor"),
    *("not_comparable", "deviations", "read", "protocol_suffix"),
)


def _entries(
    file: Path, content: Mapping[str, Any], protocols: Mapping[str, Protocol]
) -> Iterator[Described]:
    paper = Values(content, f"{file.name}: ").one("paper", text)
    for prefix, table in _section(file, content, "tables").items():
        yield from _table(file, paper, str(prefix), table, protocols)
    for name, given in _section(file, content, "entries").items():
        own = Values(content["entries"], f"{file.name}: ").section(str(name))
        kind = own.one("kind", word(tuple(Kind)))
        read = {Kind.CELL: _cell, Kind.CLAIM: _claim, Kind.CONTRADICTION: _contradiction}
        yield read[Kind(kind)](file, paper, str(name), given, protocols)


def _cell(
    file: Path, paper: str, name: str, given: Any, protocols: Mapping[str, Protocol]
) -> Described:
    values = _values(file, name, given, _CELL_KEYS)
    protocol = values.optional("protocol", word(protocols.keys()))
    cost = values.optional("cost", duration)
    return PaperCell(
        id=name,
        paper=paper,
        where=values.one("where", text),
        what=values.one("what", text),
        attention=values.optional("attention", text) or "",
        hyperparameters=dict(values.section("hyperparameters").given),
        protocol=protocols[protocol] if protocol else None,
        by=values.optional("by", text) or "",
        settings=dict(values.section("settings").given),
        published=_share(values, values.one("published", number(low=0.0))),
        tolerance=_share(values, values.one("tolerance", number(low=0.0))),
        read=Read(values.one("read", word(tuple(Read)))),
        not_comparable=values.optional("not_comparable", text) or "",
        cost_s=cost if cost is not None else protocols[protocol].cost_s if protocol else 0.0,
        deviations=tuple(map(str, _list(values.given.get("deviations")))),
    )


def _share(values: Values, found: float) -> float:
    return found / 100 if values.optional("percent", flag) else found


def _claim(
    file: Path, paper: str, name: str, given: Any, protocols: Mapping[str, Protocol]
) -> Described:
    values = _values(file, name, given, _CLAIM_KEYS)
    return Claim(
        id=name,
        paper=values.optional("paper", text) or paper,
        where=values.one("where", text),
        sentence=values.one("sentence", text),
        refuted_by=values.optional("refuted_by", text) or "",
        by=values.optional("by", text) or name,
        settings=dict(values.section("settings").given),
        cost_s=values.one("cost", duration),
    )


def _contradiction(
    file: Path, paper: str, name: str, given: Any, protocols: Mapping[str, Protocol]
) -> Described:
    values = _values(file, name, given, _CONTRADICTION_KEYS)
    printed = values.section("values").given
    return Contradiction(
        id=name,
        paper=paper,
        what=values.one("what", text),
        values=tuple((str(source), str(value)) for source, value in printed.items()),
        of=tuple(map(str, _list(values.given.get("of")))),
        note=values.optional("note", text) or "",
    )


def _table(
    file: Path, paper: str, prefix: str, given: Any, protocols: Mapping[str, Protocol]
) -> Iterator[PaperCell]:
    """A table as it is printed: a row per model, a column per protocol; null is no cell."""
    values = _values(file, prefix, given, _TABLE_KEYS)
    columns = values.section("columns").given
    shared = tuple(map(str, _list(values.given.get("deviations"))))
    for row, found in values.section("rows").given.items():
        row_values = _values(file, f"{prefix}.{row}", found, _ROW_KEYS)
        printed = _list(row_values.given.get("values"))
        if len(printed) != len(columns):
            raise ConfigError(
                f"{file}: {prefix}.{row} has {len(printed)} values and the table {len(columns)} "
                "columns. Write null where the paper has none."
            )
        suffix = row_values.optional("protocol_suffix", text) or ""
        for (column, usual), value in zip(columns.items(), printed, strict=True):
            if value is None:
                continue
            name = f"{usual}{suffix}" if usual else None
            if name is not None and name not in protocols:
                hint = did_you_mean(name, protocols)
                raise ConfigError(f"{file}: {prefix}.{row}: {name} is no protocol. {hint}")
            protocol = protocols[name] if name else None
            factor = row_values.optional("cost_factor", number(low=0.0)) or 1.0
            why = row_values.optional("not_comparable", text) or ""
            read = row_values.optional("read", text) or values.one("read", text)
            yield PaperCell(
                id=f"{prefix}-{row}-{column}",
                paper=paper,
                where=values.one("where", text),
                what=f"{row_values.optional('title', text) or row}, {column}",
                attention=row_values.optional("attention", text) or "",
                hyperparameters=dict(row_values.section("hyperparameters").given),
                protocol=protocol,
                published=_share(values, number(low=0.0)(f"{prefix}.{row}.{column}", value)),
                tolerance=_share(values, values.one("tolerance", number(low=0.0))),
                read=Read(read),
                not_comparable=why or values.optional("not_comparable", text) or "",
                cost_s=protocol.cost_s * factor if protocol else 0.0,
                deviations=(*shared, *map(str, _list(row_values.given.get("deviations")))),
            )


def _values(file: Path, name: str, given: Any, known: Sequence[str]) -> Values:
    return Values({name: given}, f"{file.name}: ").section(name, known)


def _list(given: Any) -> list[Any]:
    if given is None:
        return []
    return list(given) if isinstance(given, (list, tuple)) else [given]


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
