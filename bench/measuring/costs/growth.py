"""Costs of a mechanism at one size and as sequences grow; nothing is run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from attentions import attention_class, build_attention, hyperparameters
from bench.core.cell import Cell, KernelWorkload
from bench.measuring.building import build_module, geometry_of, shape_of
from bench.measuring.costs.claimed import claimed_flops
from bench.measuring.costs.estimate import peak_bytes_of
from bench.measuring.states import bytes_after

BATCH_SIZE, NUM_HEADS, HEAD_DIM, SEQ_LEN = 1, 8, 64, 4096
"""The shape that costs are told at: that of the tables that compare mechanisms."""

_GROWTH_LENGTHS = (16_384, 65_536)
"""Long enough for the highest power to show, and squares, which every grid mechanism takes."""

_FEW_HEADS = 2
"""For the growth of memory, which heads do not change; a dry run takes as long as it has heads."""

_NEARLY = 0.1
"""An exponent this near to a whole number is called by it."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Costs at the shape above, and the powers of N that they grow with.

    Attributes:
        flops: of one forward call.
        flops_growth: such as ``N`` or ``N^2``.
        memory_growth: of what a forward call allocates, its output included; None where meta
            tensors do not get through it.
        decode_growth: of one decoded token, ``1`` where a state of fixed size is kept; None
            without a step.
    """

    flops: int
    flops_growth: str | None
    memory_growth: str | None
    decode_growth: str | None


def costs(name: str) -> Costs:
    """Work out what a mechanism with its defaults costs, causal where it must be."""
    cell = default_cell(name, SEQ_LEN)
    few_heads = replace(cell, workload=replace(cell.kernel, num_heads=_FEW_HEADS))
    return Costs(
        flops=_flops(cell),
        flops_growth=_growth(_flops, cell),
        memory_growth=_growth(peak_bytes_of, few_heads),
        decode_growth=_growth(_decode_flops, cell) if _can_decode(cell) else None,
    )


def forward_flops(name: str) -> int:
    """FLOPs of one forward call at the shape above."""
    return _flops(default_cell(name, SEQ_LEN))


def _can_decode(cell: Cell) -> bool:
    return attention_class(cell.mechanism).capabilities.recurrent


def default_cell(name: str, seq_len: int) -> Cell:
    """A forward call of a mechanism with its defaults, causal where it must be."""
    can = attention_class(name).capabilities
    return Cell(
        entry=name,
        mechanism=name,
        hyperparameters=hyperparameters(name),
        device="cpu",
        num_threads=1,
        workload=KernelWorkload(
            seq_len=seq_len,
            batch_size=BATCH_SIZE,
            num_heads=NUM_HEADS,
            head_dim=HEAD_DIM,
            dtype="float32" if "float32" in can.dtypes else can.dtypes[0],
            mode="forward",
            causal=not can.bidirectional,
            scope="core" if "core" in can.scopes else "layer",
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Needs of one call at one length; nothing is run, and nothing allocated.

    Attributes:
        workload: a forward call of the shape above, at this length.
        flops: by the formula.
        num_parameters: learnable values of what is called.
        state_bytes: what a decoding model keeps of so many tokens; None without a step.
        peak_bytes: what the call allocates, its output included; None where meta tensors do not get
            through it.
    """

    workload: KernelWorkload
    flops: int
    num_parameters: int
    state_bytes: int | None
    peak_bytes: int | None


def needs(name: str, seq_len: int) -> Needs:
    """Needs of a mechanism with its defaults at a length.

    Raises:
        ValueError: it cannot be built for that length.
    """
    cell = default_cell(name, seq_len)
    return Needs(
        workload=cell.kernel,
        flops=_flops(cell),
        num_parameters=sum(p.numel() for p in _built(cell).parameters() if p.requires_grad),
        state_bytes=_state_bytes(cell) if _can_decode(cell) else None,
        peak_bytes=peak_bytes_of(cell),
    )


def _state_bytes(cell: Cell) -> int:
    """Size of the state after all tokens, in bytes."""
    w = replace(cell.kernel, causal=True)

    def build() -> Any:
        return build_attention(cell.mechanism, geometry_of(w), **cell.hyperparameters)

    return bytes_after(build, w.seq_len, dtype=getattr(torch, w.dtype))


def _built(cell: Cell) -> Any:
    with torch.device("meta"):
        return build_module(cell, device="meta")


def _flops(cell: Cell) -> int:
    return claimed_flops(_built(cell), "flops", shape_of(cell.kernel))


def _decode_flops(cell: Cell) -> int:
    return claimed_flops(_built(cell), "decode_flops", shape_of(cell.kernel))


def _growth(cost: Callable[[Cell], int | None], cell: Cell) -> str | None:
    """The power of N by which a cost grows between the two lengths; None if it is not known."""
    first, second = _GROWTH_LENGTHS
    at = [replace(cell, workload=replace(cell.kernel, seq_len=n)) for n in (first, second)]
    short, long = map(cost, at)
    if short is None or long is None:
        return None
    if not short:
        return "0"
    exponent = math.log(long / short) / math.log(second / first)
    nearest = round(exponent)
    if abs(exponent - nearest) > _NEARLY:
        return f"N^{exponent:.1f}"
    return {0: "1", 1: "N"}.get(nearest, f"N^{nearest}")
