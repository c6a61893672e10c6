"""Proofs of a mechanism: from a folder of results, or else those committed with the source.

``results/proofs.jsonl`` is in git: a line per mechanism, with the hash of the source that was
tested, without comments and docstrings. If the source has changed since, its proofs are shown as
those of an earlier state.

``<out>/badges/<run>.jsonl`` holds one line per mechanism whose claims were tested, so that a run
that is stopped keeps what it has. The newest line of a mechanism counts, and replaces all of its
badges. ``<out>/verify.json`` holds the cases of the authors' numbers.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from annotated_types import Len

from bench.core.cli.errors import ConfigError
from bench.core.cli.limits import Count, Name, Text, parsed
from bench.core.cli.stored_files import read_inside, regular_files
from bench.core.cli.texts import LIMITS, visible
from bench.core.lines import Lines
from bench.core.observed import Speed
from bench.core.places import CHECKOUT
from bench.core.record import Record
from bench.core.sources import hash_syntax

STORED = CHECKOUT / "results" / "proofs.jsonl"
COMMAND = "make proofs"


SERVING = (
    *("chunked_prefill", "prefix_reuse", "rollback", "batch_invariant"),
    *("padding_invariant", "packed", "train_equals_serve"),
)
"""Claims about serving; docs/serving.md says what they mean."""


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
        reason: why it failed or was skipped; of a pass, what its checks recorded in words, such as
            ``to the bit``, and the form that is left untested; else None.
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


def _held(badges: Iterable[Badge]) -> tuple[int, int]:
    states = [badge.status for badge in badges]
    passed = states.count(BadgeStatus.PASSED)
    return passed, passed + states.count(BadgeStatus.FAILED)


def badges_folder(out: Path) -> Path:
    """The folder ``<out>/badges``."""
    return out / "badges"


def _lines(file: Path) -> Lines[Tested]:
    mend = "Move the file out of the folder, and run attnbench verify conformance=true again."
    return Lines(file, Tested, mend=mend)


def append_badges(out: Path, run: str, mechanism: str, badges: Sequence[Badge]) -> Path:
    """Write one mechanism's badges as a line of ``<run>.jsonl``; return once it is on disk.

    Raises:
        ConfigError: it could not be written; what was written before is intact.
    """
    path = badges_folder(out) / f"{run}.jsonl"
    _lines(path).append(Tested(mechanism=mechanism, badges=tuple(badges)))
    return path


def read_badges(out: Path) -> dict[str, dict[str, Badge]]:
    """The newest badges of each mechanism: mechanism -> claim -> badge; empty if there are none.

    Raises:
        ConfigError: a file cannot be read, or does not hold badges.
    """
    newest: dict[str, Tested] = {}
    for file in regular_files(out, "badges/*.jsonl"):
        for line in _lines(file).read():
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


@dataclass(frozen=True, kw_only=True)
class Proofs:
    """Proofs of one mechanism.

    Attributes:
        badges: by their claim.
        goldens: cases of the authors' numbers that passed, and that were compared; None if none.
        source: hash of the source that was tested; empty where it was not written down.
        goldens_source: the same for `goldens`; empty if it is `source`.
        stored: day and version of torch of proofs that came with the code; empty for own ones.
    """

    badges: Mapping[str, Badge] = field(default_factory=dict)
    goldens: tuple[int, int] | None = None
    source: str = ""
    goldens_source: str = ""
    stored: str = ""

    @property
    def claims(self) -> tuple[int, int]:
        """Claims that hold, and claims that were tested."""
        return _held(self.badges.values())

    @property
    def serving(self) -> tuple[int, int]:
        """The same of `SERVING` alone."""
        return _held(badge for badge in self.badges.values() if badge.claim in SERVING)

    def is_stale(self, module: str) -> bool:
        """Whether the mechanism's module, or a file that it imports, has changed since its badges.

        `module` is its file within `attentions`, as `mechanisms/linear`; a plugin's is a name
        alone, and never stale.
        """
        return _is_earlier(self.source, module)

    def has_stale_goldens(self, module: str) -> bool:
        """As `is_stale`, since its golden cases were compared."""
        return _is_earlier(self.goldens_source or self.source, module)

    def words(self, module: str) -> Iterator[str]:
        """Lines about goldens and badges, without the badges themselves."""
        if self.goldens:
            yield "matches the authors' code in {} of {} recorded cases".format(*self.goldens)
        if self.badges:
            yield "{} of {} claims hold".format(*self.claims)
        if self.stored:
            yield f"stored with the code: {self.stored}"
        parts = (
            ("authors' numbers: ", self.goldens, self.has_stale_goldens(module)),
            ("claims: ", self.badges, self.is_stale(module)),
        )
        shown = [(what, is_old) for what, has, is_old in parts if has]
        old = [what for what, is_old in shown if is_old]
        if old:
            which = old[0] * (len(old) < len(shown))
            yield f"{which}of an earlier state of its source; attnbench verify tests it again"
        if not (self.goldens or self.badges):
            yield "not tested: attnbench verify, then with conformance=true"


def _is_earlier(source: str, module: str) -> bool:
    """Whether a hash is of an earlier source than a module of `attentions` has now."""
    if not source or "/" not in module:
        return False
    return hash_syntax(f"attentions.{module.replace('/', '.')}") != source


def read_proofs(out: Path, stored: Path = STORED) -> dict[str, Proofs]:
    """Read the proofs of every mechanism: those in `out` where there are any, else stored ones.

    Raises:
        ConfigError: badges, ``verify.json`` or the stored file cannot be read.
    """
    found = stored_proofs(stored)
    badges, goldens = read_badges(out), read_goldens(out / "verify.json")
    for name, own in badges.items():
        source = next((badge.source for badge in own.values()), "")
        kept = found.get(name, Proofs())
        compared = kept.goldens if kept.source == source else None
        found[name] = Proofs(badges=own, goldens=compared, source=source)
    for name, cases in goldens.items():
        counts = (cases.passed, cases.compared)
        kept = found.get(name, Proofs())
        found[name] = replace(kept, goldens=counts, goldens_source=cases.source)
    return found


def with_verified(records: Iterable[Record], out: Path) -> list[Record]:
    """Records, with plugins whose claims were all tested in `out`, and hold, counted as ours.

    Raises:
        ConfigError: the badges in `out` cannot be read.
    """
    badges = read_badges(out)

    def is_verified(name: str) -> bool:
        passed, tested = Proofs(badges=badges.get(name, {})).claims
        return 0 < passed == tested

    return [
        replace(record, result=replace(result, is_foreign=False))
        if isinstance(result := record.result, Speed)
        and result.is_foreign
        and is_verified(record.cell.mechanism)
        else record
        for record in records
    ]


def stored_proofs(path: Path = STORED) -> dict[str, Proofs]:
    """Read the proofs that came with the code; none in an installation without ``results/``.

    Raises:
        ConfigError: a line of the file is not what `line_of` writes.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
        return dict(_read_line(parsed(line)) for line in lines)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} does not hold proofs ({error!r}). `git checkout {path.name}` restores it, "
            f"and `{COMMAND}` makes it again."
        ) from error


def _read_line(said: dict[str, Any]) -> tuple[str, Proofs]:
    badges = [
        Badge(claim=claim, status=BadgeStatus(status), reason=reason, num_checks=num_checks)
        for claim, status, num_checks, reason in said["badges"]
    ]
    goldens = said["goldens"]
    return said["mechanism"], Proofs(
        badges={badge.claim: badge for badge in badges},
        goldens=(int(goldens[0]), int(goldens[1])) if goldens else None,
        source=said["source"],
        stored=f"{said['tested_at'][:10]}, torch {said['torch']}",
    )


def line_of(mechanism: str, badges: Mapping[str, Badge], goldens: tuple[int, int] | None) -> str:
    """Write a mechanism's proofs as a line of the stored file."""
    first = next(iter(badges.values()))
    said = {
        "mechanism": mechanism,
        "source": first.source,
        "tested_at": first.tested_at,
        "torch": first.torch,
        "goldens": goldens,
        "badges": [[b.claim, b.status, b.num_checks, b.reason] for b in badges.values()],
    }
    return json.dumps(said)
