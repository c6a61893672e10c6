"""Results of the tests of a mechanism's claims, kept on disk beside the records; needs no torch.

``<out>/badges/<run>.jsonl`` holds one line per mechanism that was tested, so that a run that is
stopped keeps what it has. The newest line of a mechanism counts, and replaces all of its badges.
``<out>/verify.json`` holds the cases of the authors' numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NamedTuple

from annotated_types import Len

from bench.core.cli.errors import ConfigError
from bench.core.cli.limits import Count, Name, Text, parsed
from bench.core.cli.stored_files import read_inside, regular_files
from bench.core.cli.texts import LIMITS, visible
from bench.core.lines import Lines


class BadgeStatus(StrEnum):
    """How the test of a claim ended."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_CLAIMED = "not_claimed"
    SKIPPED = "skipped"
    """Claimed, and not testable here: another device, or a package that is not installed."""


@dataclass(frozen=True, kw_only=True)
class Badge:
    """One claim of one mechanism, and how its test ended.

    Attributes:
        claim: a short name, such as ``causal``.
        reason: why it failed or was skipped, or the form that a pass leaves untested; else None.
        source: hash of the mechanism's source when it was tested; if it differs from today's, the
            badge is about an earlier state.
    """

    claim: Name
    status: BadgeStatus
    reason: str | None = None
    num_checks: Count = 0
    source: Text = ""
    tested_at: Text = ""
    torch: Text = ""


@dataclass(frozen=True, kw_only=True)
class Tested:
    """A line of a file: the badges of one mechanism."""

    mechanism: Name
    badges: Annotated[tuple[Badge, ...], Len(0, 1000)]

    @property
    def date(self) -> str:
        """When the last of them was tested."""
        return max((badge.tested_at for badge in self.badges), default="")

    def by_claim(self) -> dict[str, Badge]:
        """The badges, with reasons that a terminal only prints."""
        shown = (b.reason and visible(b.reason, LIMITS["reason"]) for b in self.badges)
        return {b.claim: replace(b, reason=r) for b, r in zip(self.badges, shown, strict=True)}


def badges_folder(out: Path) -> Path:
    """The folder ``<out>/badges``."""
    return out / "badges"


def _lines(out: Path, file: Path) -> Lines[Tested]:
    mend = "Move the file out of the folder, and run attnbench verify conformance=true again."
    return Lines(file, Tested, root=out, mend=mend)


def append_badges(out: Path, run: str, mechanism: str, badges: Sequence[Badge]) -> Path:
    """Write one mechanism's badges as a line of ``<run>.jsonl``; return once it is on disk.

    Raises:
        ConfigError: it could not be written; what was written before is intact.
    """
    path = badges_folder(out) / f"{run}.jsonl"
    _lines(out, path).append(Tested(mechanism=mechanism, badges=tuple(badges)))
    return path


def read_badges(out: Path) -> dict[str, dict[str, Badge]]:
    """The newest badges of each mechanism: mechanism -> claim -> badge; empty if there are none.

    Raises:
        ConfigError: a file cannot be read, or does not hold badges.
    """
    newest: dict[str, Tested] = {}
    for file in regular_files(out, "badges/*.jsonl"):
        for line in _lines(out, file).read():
            if line.date >= newest.get(line.mechanism, line).date:
                newest[line.mechanism] = line
    return {name: line.by_claim() for name, line in sorted(newest.items())}


class Goldens(NamedTuple):
    """Golden cases of one mechanism.

    Attributes:
        source: hash of the mechanism's source when they were compared; empty if unknown.
    """

    passed: int
    compared: int
    source: str = ""


def read_goldens(path: Path) -> dict[str, Goldens]:
    """Count the golden cases of each mechanism; empty if the file does not exist.

    Raises:
        ConfigError: the file is not what `bench.verify` writes.
    """
    try:
        text = read_inside(path.parent, path).decode()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from error
    passed: Counter[str] = Counter()
    compared: Counter[str] = Counter()
    sources: dict[str, str] = {}
    try:
        for row in parsed(text):
            if row["status"] != "not_covered" and row["mechanism"] is not None:
                compared[row["mechanism"]] += 1
                passed[row["mechanism"]] += row["status"] == "passed"
                sources[row["mechanism"]] = str(row.get("source") or "")
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(
            f"{path} does not hold the rows of a verification ({error!r}). "
            "Write it again with `attnbench verify`, or say out=DIR."
        ) from error
    return {name: Goldens(passed[name], n, sources[name]) for name, n in compared.items()}
