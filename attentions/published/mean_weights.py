"""Operators that several of the published linear attentions share: one normaliser, one rotation."""

from __future__ import annotations

import torch
from torch import Tensor

from ..maths.rotary import turns
from ..maths.tables import kept


def averaged(phi_q: Tensor, phi_k: Tensor, v: Tensor, eps: float, *plain: Tensor) -> Tensor:
    """phi(q) (phi(k)^T v) over the mean weight; ``plain`` features go into the latter instead."""
    mean_q, mean_k = plain or (phi_q, phi_k)
    share = phi_k.shape[-2] ** -0.5
    z = 1 / (mean_q @ mean_k.mean(dim=-2, keepdim=True).transpose(-2, -1) + eps)
    context = (phi_k.transpose(-2, -1) * share) @ (v * share)
    mixed: Tensor = phi_q @ context * z
    return mixed


@kept
def sines_and_cosines(
    grid: tuple[int, int], dim: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Sine and cosine of every channel's angle, (N, dim) each; kept between calls."""
    turn = turns(grid, dim, dtype, device)
    return turn.imag.repeat_interleave(2, dim=-1), turn.real.repeat_interleave(2, dim=-1)


def rotated(x: Tensor, sin: Tensor, cos: Tensor) -> Tensor:
    """Adjacent channels (x0, x1) turned, by way of (-x1, x0)."""
    crossed = torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)
    return x * cos + crossed * sin
