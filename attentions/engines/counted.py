"""Executed FLOPs of a recurrence, read by torch's counter from short dry runs on meta tensors."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ..base import Attention, CallShape, Mechanism
from ..maths.recurrences.chunks import CHUNK
from .gates import TakesGates


def counted_flops(core: Mechanism, shape: CallShape) -> int:
    """FLOPs of a forward call of a mechanism that takes tokens one by one or in chunks.

    So many tokens more, a chunk, always cost the same. Two dry runs tell what, of one row and at
    most two chunks; a dry run of all tokens would take seconds. They are kept with the core.
    """
    whole, rest = divmod(shape.query_len, CHUNK)
    if whole < 2:
        return shape.batch_size * _dry_run(core, shape, shape.query_len)
    one, two = (_dry_run(core, shape, count * CHUNK) for count in (1, 2))
    first = _dry_run(core, shape, CHUNK + rest) if rest else one
    return shape.batch_size * (first + (whole - 1) * (two - one))


def _dry_run(core: Mechanism, shape: CallShape, num_tokens: int) -> int:
    key = (num_tokens, shape.num_heads, shape.head_dim, shape.value_dim)
    known: dict[Any, int] = core.__dict__.setdefault("_counted", {})
    if key not in known:
        dry = copy.deepcopy(core).to("meta", torch.float32)
        g = core.geometry
        sizes: list[tuple[int, ...]] = [(1, num_tokens, g.embed_dim)]
        if isinstance(core, Attention):
            heads = (g.num_heads, g.num_kv_heads, g.num_kv_heads)
            widths = (g.head_dim, g.head_dim, g.value_dim)
            sizes = [(1, h, num_tokens, d) for h, d in zip(heads, widths, strict=True)]
        tokens = [torch.empty(size, device="meta") for size in sizes]
        gates = _asked_for(dry, tokens[1], num_tokens) if isinstance(dry, TakesGates) else {}
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            dry(*tokens, **gates)
        known[key] = counter.get_total_flops()
    return known[key]


def _asked_for(core: TakesGates, k: Tensor, num_tokens: int) -> dict[str, Tensor]:
    """Gates that the core has no values of its own for."""
    with torch.no_grad():
        learned = core.learned_gates(k)
    shapes = {
        name: core.gate_shape(name, 1, num_tokens) for name in core.gates if name not in learned
    }
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
