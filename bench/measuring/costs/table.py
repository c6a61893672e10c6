"""Table of proofs of FLOP formulas: each formula beside the count it was compared with."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from bench.measuring.costs.proof import FlopProof, FlopVerdict

_STYLES = {
    FlopVerdict.CONFIRMED: "green",
    FlopVerdict.FAILED: "bold red",
    FlopVerdict.UNCONFIRMED: "yellow",
}


def table(proofs: Sequence[FlopProof]) -> Table:
    """One row for each form of each mechanism."""
    rows = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        caption="FLOPs of one call of this shape, two per multiply-add.",
        caption_justify="left",
    )
    for name in ("mechanism", "form", "status", "shape"):
        rows.add_column(name, overflow="fold")
    rows.add_column("formula", justify="right")
    rows.add_column("needed", justify="right")
    rows.add_column("by", overflow="fold")
    rows.add_column("executed", justify="right")
    rows.add_column("counted", justify="right")
    for proof in proofs:
        rows.add_row(
            proof.mechanism,
            proof.form,
            Text(proof.status, style=_STYLES[proof.status]),
            proof.shape,
            *map(_count, (proof.formula, proof.needed)),
            proof.method or "",
            *map(_count, (proof.executed, proof.counted)),
        )
    return rows


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
