"""Published cells, claims and contradictions: a module per paper, whose `PAPER` has them. No torch.

A paper of one's own is a file of the same form.
"""

from __future__ import annotations

import runpy
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from bench.core.cli.errors import ConfigError, did_you_mean
from bench.core.registry import import_all
from bench.studies.reproduce.described import (
    Claim,
    Contradiction,
    Described,
    Paper,
    PaperCell,
    Protocol,
)

T = TypeVar("T")


@dataclass(frozen=True)
class Papers:
    """All described entries by id and all protocols by name, in the order of papers and lines.

    A protocol follows those that it is like.
    """

    entries: Mapping[str, Described]
    protocols: Mapping[str, Protocol]

    def find(self, name: str) -> Described:
        """Find the entry with an id.

        Raises:
            ConfigError: there is none; the message names the nearest ids.
        """
        if name not in self.entries:
            hint = did_you_mean(name, self.entries)
            hint = "None has a name like it." if hint.startswith("Known:") else hint
            raise ConfigError(
                f"cell={name} is not described by a paper. {hint} `attnbench reproduce` lists all."
            )
        return self.entries[name]

    def of_kind(self, kind: type[T]) -> list[T]:
        """Entries of one kind, in the order of the papers."""
        return [entry for entry in self.entries.values() if isinstance(entry, kind)]


def read_papers(own: Path | None = None) -> Papers:
    """Collect the papers of this package, and those of a Python file or of a folder of such files.

    Raises:
        ConfigError: an id or a protocol that is described twice, an entry that cannot be run or
            that names an unknown one, or a file that cannot be run or has no `PAPER`.
    """
    papers: list[Paper] = [module.PAPER for module in import_all(__name__)]
    if own is not None:
        papers += map(_paper_in, sorted(own.glob("*.py")) if own.is_dir() else [own])
    protocols: dict[str, Protocol] = {}
    entries: dict[str, Described] = {}
    for paper in papers:
        for entry in paper.entries:
            if entry.id in entries:
                raise ConfigError(
                    f"{paper.title} describes {entry.id}, which is described already."
                )
            entries[entry.id] = replace(entry, paper=entry.paper or paper.title)
    for entry in entries.values():
        _check(entry, entries)
        protocol = entry.protocol if isinstance(entry, PaperCell) else None
        if protocol and protocols.setdefault(protocol.name, protocol) != protocol:
            raise ConfigError(
                f"{entry.id} is trained by another protocol {protocol.name} than an earlier cell. "
                "Give it another name."
            )
    return Papers(entries, protocols)


def _paper_in(file: Path) -> Paper:
    """The paper of a user's file, compiled anew: cached bytecode misses an edit within a second."""
    path = str(file.resolve())
    try:
        paper = runpy.run_path(path, run_name=f"_paper_{file.stem}").get("PAPER")
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == path]
        where = f"{file}:{lines[-1]}" if lines else file
        raise ConfigError(f"{where} cannot be run: {type(error).__name__}: {error}") from error
    if not isinstance(paper, Paper):
        raise ConfigError(f"{file} has no PAPER = Paper(...); docs/adding-a-paper.md shows one.")
    return paper


def _check(entry: Described, entries: Mapping[str, Described]) -> None:
    seeds = entry.seeds if isinstance(entry, Claim) else None
    if seeds is not None and len(set(seeds)) < max(2, len(seeds)):
        raise ConfigError(f"{entry.id} has seeds={[*seeds]}; two or more are needed, each once.")
    if isinstance(entry, Contradiction):
        for name in entry.of:
            if not isinstance(entries.get(name), PaperCell):
                raise ConfigError(f"{entry.id} names {name}, and no cell is called that.")
    elif isinstance(entry, PaperCell) and not (
        entry.not_comparable or entry.by or (entry.protocol and entry.attention)
    ):
        raise ConfigError(
            f"{entry.id} says neither how it is trained (protocol and attention) or measured (by), "
            "nor why it is not comparable (not_comparable)."
        )
