"""Results of the tests of a mechanism's claims, kept on disk beside the records; needs no torch.

``<out>/badges/<run>.jsonl`` holds one line per mechanism that was tested, so that a run that is
stopped keeps what it has. The newest line of a mechanism counts, and replaces all of its badges.
``<out>/verify.json`` holds the cases of the authors' numbers.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from annotated_types import Len

from bench.core.cli.errors import ConfigError
from bench.core.cli.files import append_whole, is_torn
from bench.core.cli.limits import Count, Name, Text, checked, parsed
from bench.core.cli.stored_files import read_inside, regular_files
from bench.core.cli.texts import LIMITS, visible

_LINE_START = b'{"mechanism":'
"""Beginning of every line, also of one that a crash cut short."""


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
class _Line:
    mechanism: Name
    badges: Annotated[list[dict[str, Any]], Len(0, 1000)]


def badges_folder(out: Path) -> Path:
    """The folder ``<out>/badges``."""
    return out / "badges"


def append_badges(out: Path, run: str, mechanism: str, badges: Sequence[Badge]) -> Path:
    """Write one mechanism's badges as a line of ``<run>.jsonl``; return once it is on disk.

    Raises:
        ConfigError: it could not be written; what was written before is intact.
    """
    path = badges_folder(out) / f"{run}.jsonl"
    line = json.dumps({"mechanism": mechanism, "badges": [asdict(b) for b in badges]}) + "\n"
    try:
        append_whole(path, line.encode(), _LINE_START, inside=out)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}. Free space, or choose another out."
        ) from error
    return path


def read_badges(out: Path) -> dict[str, dict[str, Badge]]:
    """The newest badges of each mechanism: mechanism -> claim -> badge; empty if there are none.

    A torn last line, left by a crash in the middle of a write, is skipped.

    Raises:
        ConfigError: a file cannot be read, or does not hold badges.
    """
    newest: dict[str, dict[str, Badge]] = {}
    for file in regular_files(out, "badges/*.jsonl"):
        for mechanism, badges in _read_file(file):
            if _date(badges) >= _date(newest.get(mechanism, {})):
                newest[mechanism] = badges
    return dict(sorted(newest.items()))


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


def _date(badges: dict[str, Badge]) -> str:
    return max((badge.tested_at for badge in badges.values()), default="")


def _read_file(file: Path) -> Iterator[tuple[str, dict[str, Badge]]]:
    try:
        lines = read_inside(file.parent.parent, file).decode().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}.") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            said = checked(_Line, parsed(line))
            badges = [_badge(each) for each in said.badges]
            yield said.mechanism, {badge.claim: badge for badge in badges}
        except (ValueError, KeyError, TypeError) as error:
            # Only the last line can lack its newline; if it is no JSON then, it is torn.
            if number == len(lines) and is_torn(line.encode(), _LINE_START):
                continue
            raise ConfigError(
                f"{file}:{number} does not hold badges ({error!r}). Move {file.name} out of "
                "the folder, and run attnbench verify conformance=true again."
            ) from error


def _badge(said: dict[str, Any]) -> Badge:
    badge = checked(Badge, said | {"status": BadgeStatus(said["status"])})
    reason = None if badge.reason is None else visible(badge.reason, LIMITS["reason"])
    return replace(badge, reason=reason)
