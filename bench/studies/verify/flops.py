"""``flops=true``: FLOP formulas against counters, and against products of the slow forms."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from attentions import attention_class
from bench.measuring.costs.proof import FlopProof, FlopVerdict, prove_flops
from bench.publishing.document import Document, Table, Text, text_table
from bench.studies.session import Session
from bench.studies.verify.files import write_rows
from bench.studies.verify.settings import Verify


def run_flops(asked: Verify, session: Session) -> int:
    """Prove the FLOP formulas, show, write beside the rows of outputs; returns the exit code."""
    out = asked.out.with_stem(f"{asked.out.stem}-flops")
    torch.set_num_threads(1)
    proofs: list[FlopProof] = []

    def prove(name: str) -> str:
        found = list(prove_flops(attention_class(name)))
        proofs.extend(found)
        return summary(found)

    session.one_by_one(asked.mechanisms, "mechanism", prove)
    if session.is_stopped:
        return 0
    caption = "FLOPs of one call of this shape, two per multiply-add."
    session.show(Document("", [table(proofs), Text([caption, *reasons(proofs)])]))
    write_rows(out, proofs)
    session.say(f"{summary(proofs)}; rows in {out}")
    return int(any(proof.status is FlopVerdict.FAILED for proof in proofs))


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


def reasons(proofs: Sequence[FlopProof]) -> list[str]:
    """A line for each proof that is not confirmed, failures first."""
    open_ones = [p for p in proofs if p.reason is not None]
    return [
        f"{p.status} {p.mechanism} {p.form}: {p.reason}"
        for p in sorted(open_ones, key=lambda p: p.status is not FlopVerdict.FAILED)
    ]
