"""What a cell needs by its mechanism's formulas, without running it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from bench.cell import Cell
from bench.subject import build_module, shape_of


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Counts of one forward pass.

    Attributes:
        flops: that the mathematics needs.
        executed_flops: that the implementation does.
        num_parameters: learnable values.
    """

    flops: int
    executed_flops: int
    num_parameters: int


_KNOWN: dict[str, Needs] = {}


def needs_of(cell: Cell) -> Needs:
    """Look a cell up; the same for all modes, threads and allocators, so it is built once."""
    alike = replace(cell, num_threads=1, workload=replace(cell.kernel, mode="forward"))
    if alike.key not in _KNOWN:
        _KNOWN[alike.key] = _built(alike)
    return _KNOWN[alike.key]


def _built(cell: Cell) -> Needs:
    with torch.device("meta"):
        module: Any = build_module(cell, device="meta")
    shape = shape_of(cell.kernel)
    return Needs(
        flops=int(module.flops(shape)),
        executed_flops=int(module.executed_flops(shape)),
        num_parameters=sum(p.numel() for p in module.parameters() if p.requires_grad),
    )
