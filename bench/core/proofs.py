"""Proofs of a mechanism: from a folder of results, or else those committed with the source.

``results/proofs.jsonl`` is in git: a line per mechanism, with the hash of the source that was
tested. If the source has changed since, its proofs are shown as those of an earlier state.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.core.badges import Badge, BadgeStatus, read_badges, read_goldens
from bench.core.cli.errors import ConfigError
from bench.core.cli.limits import parsed
from bench.core.places import CHECKOUT
from bench.core.sources import hash_closure

STORED = CHECKOUT / "results" / "proofs.jsonl"
COMMAND = "make proofs"


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
        states = [badge.status for badge in self.badges.values()]
        passed = states.count(BadgeStatus.PASSED)
        return passed, passed + states.count(BadgeStatus.FAILED)

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
            yield f"{self.goldens[0]} of {self.goldens[1]} cases of the authors' numbers passed"
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
    return hash_closure(f"attentions.{module.replace('/', '.')}") != source


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
