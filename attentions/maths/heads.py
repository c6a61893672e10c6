"""Between tokens of C channels and heads of D channels each."""

from __future__ import annotations

import torch
from torch import Tensor


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(B, N, C) -> (B, H, N, D), a view; channels are ordered head by head."""
    return torch.unflatten(x, -1, (num_heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, H, N, D) -> (B, N, C)."""
    return x.transpose(1, 2).flatten(2)
