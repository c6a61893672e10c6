"""Rotary positions for any core: its queries and keys are turned before it sees them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

NO_ROPE = "owns its projections, so position=rope cannot turn its queries and keys."
"""Why a layer cannot be trained with rotary positions, after its name."""
BASE = 10_000.0
"""Su et al., 2021, arXiv:2104.09864: pair i of D / 2 turns by BASE^(-2 i / D) per token."""


def turn_heads(core: Any) -> None:
    """Let a core of an even head_dim get queries and keys that are turned by their place.

    What a mechanism does with them comes after, also where it makes features of them. Tokens of an
    image are counted row by row.
    """
    core.register_forward_pre_hook(_turn)


def _turn(core: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    q, k, *rest = inputs
    return (rotate(q), rotate(k), *rest)


def rotate(x: Tensor) -> Tensor:
    """Turn adjacent channels by an angle that grows with the token, (..., N, D) -> (..., N, D)."""
    num_tokens, dim = x.shape[-2:]
    # Angles in float64: their rounding would grow with the position.
    token = torch.arange(num_tokens, dtype=torch.float64, device=x.device)
    pair = torch.arange(0, dim, 2, dtype=torch.float64, device=x.device) / dim
    angle = token[:, None] * BASE**-pair  # (N, D / 2)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    one, other = x[..., ::2], x[..., 1::2]
    return torch.stack((one * cos - other * sin, one * sin + other * cos), dim=-1).flatten(-2)
