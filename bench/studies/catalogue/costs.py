"""Costs of a mechanism at one shape, and their growth with the length; nothing is run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from attentions import attention_class, build_attention, hyperparameters
from bench.core.cell import Cell, KernelWorkload
from bench.measuring.building import build_module, geometry_of, shape_of
from bench.measuring.costs.estimate import claimed_flops, peak_bytes_of
from bench.measuring.drawn_gates import gates_of
from bench.measuring.states import bytes_after

BATCH_SIZE, NUM_HEADS, HEAD_DIM, SEQ_LEN = 1, 8, 64, 4096
"""Shape of the costs in the tables that compare mechanisms."""

_GROWTH_LENGTHS = (16_384, 65_536)
"""Numbers of tokens, large enough for the highest power to show; every grid takes squares."""

_FEW_HEADS = 4
"""Number of heads for the growth of memory: more would only make the dry runs slower."""

_STATE_LENGTHS = (3_072, 6_144)
"""Numbers of tokens for the growth of a state: above all windows in use, and quick to try."""

_NEARLY = 0.1
"""Largest distance of an exponent from a whole number to which it is rounded."""

_LOGARITHMIC = 0.2
"""Exponent below which a growing cost is said to grow as a logarithm: log N itself has 0.1."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Costs at the shape above, and the powers of N with which they grow.

    Attributes:
        flops_growth: a power such as ``N`` or ``N^2``.
        memory_growth: power of the bytes that a forward call allocates, its output included; None
            if it fails on meta tensors.
        decode_growth: power of the bytes that a decoded token's state keeps, ``1`` if its size is
            fixed; None without a step. A step's FLOPs would not do: one that reads a few blocks of
            a cache has to find them first.
    """

    flops: int
    flops_growth: str | None
    memory_growth: str | None
    decode_growth: str | None


def costs(name: str) -> Costs:
    """Costs of a mechanism with its defaults, causal only if it has no other form."""
    cell = default_cell(name, SEQ_LEN)
    few_heads = replace(cell, workload=replace(cell.kernel, num_heads=_FEW_HEADS))
    return Costs(
        flops=_flops(cell),
        flops_growth=_growth(_flops, cell),
        memory_growth=_growth(peak_bytes_of, few_heads),
        decode_growth=_growth(_state_bytes, cell, _STATE_LENGTHS) if _can_decode(cell) else None,
    )


def forward_flops(name: str) -> int:
    """FLOPs of one forward call at the shape above."""
    return _flops(default_cell(name, SEQ_LEN))


def _can_decode(cell: Cell) -> bool:
    return attention_class(cell.mechanism).capabilities.recurrent


def default_cell(name: str, seq_len: int) -> Cell:
    """Forward call of a mechanism with its defaults, causal only if it has no other form."""
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
        flops: FLOPs by the formula.
        state_bytes: bytes of the state after all tokens; None without a step.
        peak_bytes: peak of the bytes that the call allocates, its output included; None if it
            fails on meta tensors.
    """

    workload: KernelWorkload
    flops: int
    num_parameters: int
    num_gate_values: int
    state_bytes: int | None
    peak_bytes: int | None


def needs(name: str, seq_len: int) -> Needs:
    """Needs of a mechanism with its defaults at a length.

    Raises:
        ValueError: it cannot be built for that length.
    """
    cell = default_cell(name, seq_len)
    gates = gates_of(_built(cell)).shapes(BATCH_SIZE, seq_len).values()
    return Needs(
        workload=cell.kernel,
        flops=_flops(cell),
        num_parameters=sum(p.numel() for p in _built(cell).parameters() if p.requires_grad),
        num_gate_values=sum(map(math.prod, gates)),
        state_bytes=_state_bytes(cell) if _can_decode(cell) else None,
        peak_bytes=peak_bytes_of(cell),
    )


def _state_bytes(cell: Cell) -> int:
    w = replace(cell.kernel, causal=True)

    def build() -> Any:
        return build_attention(cell.mechanism, geometry_of(w), **cell.hyperparameters)

    return bytes_after(build, w.seq_len, dtype=getattr(torch, w.dtype))


def _built(cell: Cell) -> Any:
    with torch.device("meta"):
        return build_module(cell, device="meta")


def _flops(cell: Cell) -> int:
    return claimed_flops(_built(cell), "flops", shape_of(cell.kernel))


def _growth(
    cost: Callable[[Cell], int | None], cell: Cell, lengths: tuple[int, int] = _GROWTH_LENGTHS
) -> str | None:
    """The power of N with which a cost grows between two lengths; None if it is unknown."""
    at = [replace(cell, workload=replace(cell.kernel, seq_len=n)) for n in lengths]
    short, long = map(cost, at)
    if short is None or long is None:
        return None
    if not short or short == long:
        return "1" if short else "0"
    exponent = math.log(long / short) / math.log(lengths[1] / lengths[0])
    if exponent < _LOGARITHMIC:
        return "log N"
    nearest = round(exponent)
    if abs(exponent - nearest) > _NEARLY:
        return f"N^{exponent:.1f}"
    return "N" if nearest == 1 else f"N^{nearest}"
