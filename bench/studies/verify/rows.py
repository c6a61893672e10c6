"""Rows of golden cases, as ``verify.json`` holds them: how each ended, and by how much."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from attentions.testing.authors.build import is_published
from attentions.testing.authors.cases import unregistered
from attentions.testing.authors.files import GoldenFolder
from attentions.testing.authors.proof import Proof, ProofStatus
from attentions.testing.flops import FlopProof
from attentions.testing.suite import GOLDEN
from bench.core.cli.command import read_yaml
from bench.core.cli.files import write_whole
from bench.measuring.machine.environment import mechanism_syntax
from bench.studies.verify.tester import Result

NOT_COVERED = "not_covered.yaml"
"""File beside the cases that lists those which may stay uncovered."""


def proofs_of(results: Iterable[Result]) -> Iterator[Proof]:
    """Proof of each golden case; one whose comparison never ended has failed."""
    for result in results:
        if result.claim != GOLDEN:
            continue
        if result.facts:
            (said,) = result.facts
            proof = Proof(**said | {"status": ProofStatus(said["status"])})
        else:
            proof = Proof(
                golden=result.check,
                mechanism=result.mechanism,
                case=result.check.partition("/")[2],
                status=ProofStatus.FAILED,
                reason=result.words,
            )
        yield replace(proof, source=mechanism_syntax(result.mechanism))


def all_proofs(results: Iterable[Result], others_of: GoldenFolder | None) -> list[Proof]:
    """Proofs by name of the case; with `others_of`, also of cases that are about no mechanism."""
    others = [] if others_of is None else [*unregistered(others_of)]
    return sorted(
        [*proofs_of(results), *others], key=lambda p: (p.golden, is_published(p.mechanism))
    )


def listed_gaps(goldens: Path) -> dict[str, str]:
    """Case and mechanism -> the reason for which it may stay uncovered.

    Raises:
        ConfigError: the file cannot be read.
    """
    file = goldens / NOT_COVERED
    return read_yaml(file) if file.exists() else {}


def unlisted(proofs: Sequence[Proof], listed: Mapping[str, str]) -> list[str]:
    """Cases that are not covered, with the reason, except those listed with the same reason."""
    gaps = {
        f"{p.golden} {p.mechanism}": p.reason for p in proofs if p.status is ProofStatus.NOT_COVERED
    }
    return [f"{case}: {why}" for case, why in gaps.items() if listed.get(case) != why]


def write_rows(path: Path, proofs: Sequence[Proof] | Sequence[FlopProof]) -> None:
    """Write the rows as JSON.

    Raises:
        ConfigError: `path` cannot be written.
    """
    rows = [asdict(proof) for proof in proofs]
    write_whole(path, json.dumps(rows, indent=1, allow_nan=False) + "\n")


def summary(proofs: Sequence[Proof]) -> str:
    """Such as ``79 passed, 0 failed, 47 not covered``; the authors' operators are counted apart."""
    ours = [proof for proof in proofs if not is_published(proof.mechanism)]
    theirs = [proof for proof in proofs if is_published(proof.mechanism)]
    counts = [_counts(ours)] if ours or not theirs else []
    return "; ".join([*counts, *([f"published: {_counts(theirs)}"] if theirs else [])])


def _counts(proofs: Sequence[Proof]) -> str:
    count = {status: sum(p.status is status for p in proofs) for status in ProofStatus}
    return ", ".join(f"{count[status]} {status.replace('_', ' ')}" for status in ProofStatus)


def remarks(proofs: Sequence[Proof]) -> list[str]:
    """A line per case that passed with a remark."""
    return [
        f"passed {p.golden} by {p.mechanism}: {p.reason}"
        for p in proofs
        if p.status is ProofStatus.PASSED and p.reason is not None
    ]
