"""``flops=true``: FLOP formulas against what counters see and what slow forms take."""

from __future__ import annotations

import torch
from rich.console import Console

from attentions import attention_class, attention_names
from bench.costs import table as flop_table
from bench.costs.proof import FlopProof, FlopVerdict, prove_flops
from bench.progress import one_by_one
from bench.verify.config import VerifyConfig, check_names
from bench.verify.files import check_writable, write_rows


def run_flops(config: VerifyConfig, console: Console) -> int:
    """Prove the FLOP formulas, show, write beside the rows of outputs; returns the exit code."""
    out = config.out.with_stem(f"{config.out.stem}-flops")
    check_writable(out)
    check_names(config)
    torch.set_num_threads(1)
    proofs: list[FlopProof] = []

    def prove(name: str) -> str:
        found = list(prove_flops(attention_class(name)))
        proofs.extend(found)
        return flop_table.summary(found)

    one_by_one(config.attention or attention_names(), prove, console)
    console.print(flop_table.table(proofs))
    for line in flop_table.reasons(proofs):
        console.print(line, markup=False, highlight=False)
    write_rows(out, proofs)
    line = f"{flop_table.summary(proofs)}; rows in {out}"
    console.print(line, markup=False, highlight=False, soft_wrap=True)
    return int(any(proof.status is FlopVerdict.FAILED for proof in proofs))
