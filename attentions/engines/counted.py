"""Executed FLOPs of a recurrence, read by torch's counter from short dry runs on meta tensors."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from ..geometry import CallShape
from ..maths.chunks import CHUNK


def counted_flops(core: Any, shape: CallShape) -> int:
    """What one forward call executes, of a core that takes tokens one by one or in whole chunks.

    So many tokens more, a chunk, always cost the same. Two dry runs tell what, of one row and at
    most two chunks; a dry run of all tokens would take seconds. They are kept with the core.
    """
    whole, rest = divmod(shape.query_len, CHUNK)
    if whole < 2:
        return shape.batch_size * _dry_run(core, shape, shape.query_len)
    one, two = (_dry_run(core, shape, count * CHUNK) for count in (1, 2))
    first = _dry_run(core, shape, CHUNK + rest) if rest else one
    return shape.batch_size * (first + (whole - 1) * (two - one))


def _dry_run(core: Any, shape: CallShape, num_tokens: int) -> int:
    key = (num_tokens, shape.num_heads, shape.head_dim, shape.value_dim)
    known: dict[Any, int] = core.__dict__.setdefault("_counted", {})
    if key not in known:
        dry = copy.deepcopy(core).to("meta")
        g = core.geometry
        sizes = (
            (g.num_heads, g.head_dim),
            (g.num_kv_heads, g.head_dim),
            (g.num_kv_heads, g.value_dim),
        )
        tokens = [torch.empty(1, h, num_tokens, d, device="meta") for h, d in sizes]
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            dry(*tokens)
        known[key] = counter.get_total_flops()
    return known[key]
