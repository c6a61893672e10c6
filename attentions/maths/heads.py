"""Split tokens of C channels into heads of D, and merge them again."""

from __future__ import annotations

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


def few_heads(q: Tensor, num_columns: int) -> list[slice]:
    """Groups of heads whose weights, ``num_columns`` per query of (B, H, N, D), fit the cache."""
    size = max(1, _CACHED // max(1, q.shape[0] * q.shape[2] * num_columns))
    return [slice(first, first + size) for first in range(0, q.shape[1], size)]
