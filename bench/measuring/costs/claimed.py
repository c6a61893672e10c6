"""FLOPs that a mechanism claims by its own formulas, checked to be counts."""

from __future__ import annotations

import numbers
from dataclasses import replace
from typing import Any

from attentions import CallShape
from bench.core.cell import KernelWorkload
from bench.measuring.building import shape_of

_MOST_FLOPS = 10**30
"""Largest count: no machine computes as many, and readers of JSON still take it."""


def flops_of(module: Any, workload: KernelWorkload) -> tuple[int, int]:
    """Needed and executed FLOPs of a forward call, or of one decoded token, by the formulas.

    Padding needs none, but implementations execute it.
    """
    whole = shape_of(workload)
    if workload.mode == "decode":
        return (claimed_flops(module, "decode_flops", whole),) * 2
    parts = (
        replace(whole, batch_size=count, query_len=queries, key_len=keys)
        for (queries, keys), count in workload.row_lens.items()
    )
    needed = sum(claimed_flops(module, "flops", part) for part in parts)
    return needed, claimed_flops(module, "executed_flops", whole)


def claimed_flops(module: Any, formula: str, shape: CallShape) -> int:
    """FLOPs by one formula: `flops`, `executed_flops` or `decode_flops`.

    Raises:
        ValueError: the formula does not give a count.
    """
    said: Any = getattr(module, formula)(shape)
    is_number = isinstance(said, numbers.Real)
    if not (is_number and 0 <= said <= _MOST_FLOPS and said == int(said)):
        raise ValueError(f"{formula}() gives {said!r}; FLOPs are a whole number, 0 or more.")
    return int(said)
