"""``flops=true``: FLOP formulas against counters, and against products of the slow forms."""

from __future__ import annotations

import torch

from attentions import attention_class
from bench.measuring.costs import table as flop_table
from bench.measuring.costs.proof import FlopProof, FlopVerdict, prove_flops
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
        return flop_table.summary(found)

    session.one_by_one(asked.mechanisms, "mechanism", prove)
    if session.is_stopped:
        return 0
    session.console.print(flop_table.table(proofs))
    for line in flop_table.reasons(proofs):
        session.say(line)
    write_rows(out, proofs)
    line = f"{flop_table.summary(proofs)}; rows in {out}"
    session.say(line)
    return int(any(proof.status is FlopVerdict.FAILED for proof in proofs))
