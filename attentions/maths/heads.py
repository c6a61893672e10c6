"""Split tokens of C channels into heads of D, and merge them again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_CACHED = 2**18
"""Numbers of float32: a MiB, which a core's second cache holds or nearly holds."""


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(B, N, C) -> (B, H, N, D), a view; channels are ordered head by head."""
    return torch.unflatten(x, -1, (num_heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, H, N, D) -> (B, N, C)."""
    return x.transpose(1, 2).flatten(2)


def by_few_heads(mix: Callable[..., Tensor], *inputs: Tensor, num_columns: int) -> Tensor:
    """``mix(*inputs)``, on a CPU a few heads at a time: what it computes of them fits the cache.

    Args:
        mix: from some heads of each input to (B, some heads, N, E).
        inputs: (B or 1, H, ...) each, the first one (B, H, N, D); H_kv heads, each of which serves
            H / H_kv of the others in a row, are copied for them.
        num_columns: numbers that are computed per query.
    """
    batch_size, num_heads, length = inputs[0].shape[:3]
    size = num_heads
    if inputs[0].device.type == "cpu":
        size = max(1, _CACHED // max(1, batch_size * length * num_columns))
    parts = zip(*(_in_parts(x, num_heads, size) for x in inputs), strict=True)
    outputs = [mix(*heads) for heads in parts]
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)


def _in_parts(x: Tensor, num_heads: int, size: int) -> Sequence[Tensor]:
    if x.shape[1] == num_heads:
        own: Sequence[Tensor] = x.split(size, dim=1)
        return own
    shared = torch.arange(num_heads, device=x.device) // (num_heads // x.shape[1])
    return [x.index_select(1, some) for some in shared.split(size)]
