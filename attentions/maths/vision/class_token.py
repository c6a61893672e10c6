"""Tokens on a grid behind a class token, as in vision transformers."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from ...base import Geometry


def grid_beside(mechanism: str, geometry: Geometry, *, class_token: bool) -> tuple[int, int]:
    """The geometry's grid; with a class token the square that all other tokens fill.

    Raises:
        ValueError: they fill no square.
    """
    if not class_token:
        return geometry.grid
    side = math.isqrt(geometry.seq_len - 1)
    if side < 1 or side**2 != geometry.seq_len - 1:
        raise ValueError(
            f"{mechanism}: seq_len is {geometry.seq_len}; with class_token=True a square number "
            "and 1 is needed, such as 197."
        )
    return side, side


def add_on_grid(x: Tensor, local: Tensor) -> Tensor:
    """X of (B, N, C) with something added to its last tokens, those on the grid."""
    return x + functional.pad(local, (0, 0, x.shape[1] - local.shape[1], 0))


def reference_add_on_grid(x: Tensor, local: Tensor) -> Tensor:
    """Slow form of `add_on_grid`, from two pieces."""
    first = x.shape[1] - local.shape[1]
    return torch.cat((x[:, :first], x[:, first:] + local), dim=1)
