"""fvcore's count of FLOPs as a judge of ours: whether it agrees and, if not, why."""

from __future__ import annotations

from collections.abc import Iterable

from bench.core.record import Record, Speed
from bench.publishing.metrics import register_metric

AGREES = 0.01
"""Largest difference, as a share of our count, that counts as agreement."""

_FUSED = "scaled_dot_product_attention"
_PRODUCTS = ("baddbmm", "addbmm", "addmv", "mv", "dot", "linalg_solve", "fft_rfft", "fft_irfft")
"""Operators with products that fvcore does not know; the others that it lists are elementwise."""


@register_metric("fvcore")
def fvcore(record: Record) -> float | None:
    """FLOPs of a forward pass by fvcore over ours, of the same products; 1 where both agree."""
    result = record.result
    if not isinstance(result, Speed) or result.fvcore_flops is None:
        return None
    ours = result.flops if record.cell.is_model else result.executed_flops
    work = record.cell.timed
    if not ours or work.mode == "decode":  # fvcore counts a forward pass over all tokens
        return None
    return work.flops_factor * result.fvcore_flops / ours


def fvcore_verdict(record: Record) -> str:
    """Text for a table; empty where fvcore was not asked or there is nothing to compare."""
    if not isinstance(record.result, Speed) or record.cell.timed.mode == "decode":
        return ""
    return verdict(fvcore(record), record.result.fvcore_unsupported)


def verdict(ratio: float | None, unsupported: Iterable[str]) -> str:
    """Whether fvcore agrees with our count and, if not, why.

    Args:
        ratio: its count over ours; None if it has none.
        unsupported: operators that it did not count, or ``not traced: ERROR``.
    """
    names = [name.removeprefix("aten::") for name in unsupported]
    if ratio is None:
        return next((name for name in names if name.startswith("not traced")), "")
    if abs(ratio - 1) <= AGREES:
        return "agrees"
    lost = ["fused attention"] * (_FUSED in names) + [name for name in names if name in _PRODUCTS]
    if lost:
        why = f"counts {' and '.join(lost)} as 0"
    elif ratio > 1:
        why = "also prices norms, resampling or sums"
    else:
        why = "reason unknown"
    return f"differs, {ratio:.2g}x: {why}"
