"""Table of proven outputs: a row per case, a line per failure, a summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from bench.studies.golden.build import is_published
from bench.studies.golden.proof import Proof, Verdict

_STYLES = {Verdict.PASSED: "green", Verdict.FAILED: "bold red", Verdict.NOT_COVERED: "dim"}


def summary(proofs: Sequence[Proof]) -> str:
    """Such as ``79 passed, 0 failed, 47 not covered``; the authors' operators are counted apart."""
    ours = [proof for proof in proofs if not is_published(proof.mechanism)]
    theirs = [proof for proof in proofs if is_published(proof.mechanism)]
    counts = [_counts(ours)] if ours or not theirs else []
    return "; ".join([*counts, *([f"published: {_counts(theirs)}"] if theirs else [])])


def _counts(proofs: Sequence[Proof]) -> str:
    count = {status: sum(p.status is status for p in proofs) for status in Verdict}
    return ", ".join(f"{count[status]} {status.replace('_', ' ')}" for status in Verdict)


def table(proofs: Sequence[Proof]) -> Table:
    """One row per case."""
    rows = Table("golden", "mechanism", "status", "error / bound", "dtype")
    for proof in proofs:
        status = Text(proof.status.replace("_", " "), style=_STYLES[proof.status])
        rows.add_row(proof.golden, proof.mechanism or "-", status, _numbers(proof), proof.dtype)
    return rows


def _numbers(proof: Proof) -> str:
    if proof.bound is None:
        return "-"
    error = "not finite" if proof.error is None else f"{proof.error:.2g}"
    return f"{error} / {proof.bound:.2g}"


def _named(proof: Proof) -> str:
    return f"{proof.golden}, {proof.mechanism}" if is_published(proof.mechanism) else proof.golden


def reasons(proofs: Sequence[Proof]) -> list[str]:
    """A line per failure, per pass that needs a word, and per reason for cases not covered."""
    failed = [f"FAILED {_named(p)}: {p.reason}" for p in proofs if p.status is Verdict.FAILED]
    remarks = [
        f"passed {_named(p)}: {p.reason}"
        for p in proofs
        if p.status is Verdict.PASSED and p.reason is not None
    ]
    alike = Counter(
        (proof.golden.partition("/")[0], proof.reason)
        for proof in proofs
        if proof.status is Verdict.NOT_COVERED
    )
    return [*failed, *remarks] + [
        f"not covered: {count} of {folder}: {reason}" for (folder, reason), count in alike.items()
    ]
