"""Table of proofs of FLOP formulas: each formula beside the count it was compared with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from attentions.testing.flops import FlopProof, FlopVerdict
from bench.publishing.document import Table, text_table
from bench.studies.verify.tester import Result


def proofs_of(results: Iterable[Result]) -> Iterator[FlopProof]:
    """Proof of each form that was tested."""
    for result in results:
        for said in result.facts:
            yield FlopProof(**said | {"status": FlopVerdict(said["status"])})


def table(proofs: Sequence[FlopProof]) -> Table:
    """Each formula beside the count that it was compared with: a row for each form."""
    return text_table(
        title="",
        header=(
            *("mechanism", "form", "status", "shape", "needed by"),
            *("formula", "needed", "executed", "counted"),
        ),
        rows=[
            (
                *(proof.mechanism, proof.form, proof.status, proof.shape, proof.method or ""),
                *map(_count, (proof.formula, proof.needed, proof.executed, proof.counted)),
            )
            for proof in proofs
        ],
        num_words=5,
    )


def _count(flops: int | None) -> str:
    return "" if flops is None else f"{flops:,}"


def summary(proofs: Sequence[FlopProof]) -> str:
    """Totals such as ``61 confirmed, 0 failed, 3 unconfirmed``."""
    count = {status: sum(p.status is status for p in proofs) for status in FlopVerdict}
    return ", ".join(f"{count[status]} {status}" for status in FlopVerdict)
