"""What a mechanism costs by its own formulas, at one size and as sequences grow; nothing is run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from attentions import CallShape, Geometry, attention_class, build_attention

BATCH_SIZE, NUM_HEADS, HEAD_DIM, SEQ_LEN = 1, 8, 64, 4096
"""The shape that costs are told at: that of the tables that compare mechanisms."""

_GROWTH_LENGTHS = (16_384, 65_536)
"""Long enough for the highest power to show, and squares, which every grid mechanism takes."""

_NEARLY = 0.1
"""An exponent this near to a whole number is called by it."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Costs at the shape above, and the powers of N that they grow with.

    Attributes:
        flops: of one forward call.
        flops_growth, memory_growth: such as ``N`` or ``N^2``; of memory, what a forward and
            backward call needs above its inputs and outputs.
        decode_growth: of one decoded token, ``1`` where a state of fixed size is kept; None
            without a step.
    """

    flops: int
    flops_growth: str
    memory_growth: str
    decode_growth: str | None


def costs(name: str) -> Costs:
    """Work out what a mechanism with its defaults costs, causal where it must be."""
    can = attention_class(name).capabilities
    short, long = (_Sized(name, seq_len) for seq_len in _GROWTH_LENGTHS)
    return Costs(
        flops=_Sized(name, SEQ_LEN).flops(),
        flops_growth=_power(short.flops(), long.flops()),
        memory_growth=_power(short.elements(), long.elements()),
        decode_growth=_power(short.decode(), long.decode()) if can.recurrent else None,
    )


class _Sized:
    """A mechanism built for a length, without memory for its weights."""

    def __init__(self, name: str, seq_len: int) -> None:
        causal = not attention_class(name).capabilities.bidirectional
        side = math.isqrt(seq_len)
        geometry = Geometry(
            num_heads=NUM_HEADS,
            head_dim=HEAD_DIM,
            seq_len=seq_len,
            causal=causal,
            grid=(side, side),
        )
        with torch.device("meta"):
            self._module: Any = build_attention(name, geometry)
        self._shape = CallShape(
            batch_size=BATCH_SIZE,
            num_heads=NUM_HEADS,
            query_len=seq_len,
            key_len=seq_len,
            head_dim=HEAD_DIM,
            value_dim=HEAD_DIM,
            causal=causal,
        )

    def flops(self) -> int:
        return int(self._module.flops(self._shape))

    def decode(self) -> int:
        return int(self._module.decode_flops(self._shape))

    def elements(self) -> int:
        return int(self._module.extra_elements(self._shape, backward=True))


def _power(short: int, long: int) -> str:
    """The power of N by which a cost grew between the two lengths."""
    if not short:
        return "0"
    first, second = _GROWTH_LENGTHS
    exponent = math.log(long / short) / math.log(second / first)
    nearest = round(exponent)
    if abs(exponent - nearest) > _NEARLY:
        return f"N^{exponent:.1f}"
    return {0: "1", 1: "N"}.get(nearest, f"N^{nearest}")
