"""MLLA's linear attention as its authors' code computes it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..checks import fills_grid
from ..maths.heads import merge_heads, split_heads
from ..maths.tables import kept
from ..maths.vision.grid import convolve_on_grid
from ..mechanisms.mlla import Mlla
from .entry import published
from .mean_weights import averaged

_BASE = 10_000.0


@published(
    "mlla",
    title="MLLA linear attention layer, published operators",
    source="LeapLabTHU/MLLA, mlla.py, commit 66b6d297",
)
def mlla_published(ours: Mlla, x: Tensor, *, eps: float) -> Tensor:
    """`mlla` by its authors' operators: features with and without their rotation, split into heads.

        q, k  = qk(x);  phi = elu + 1
        out_i = mean_j (R_i phi(q_i)) . (R_j phi(k_j)) x_j / (mean_j phi(q_i) . phi(k_j) + eps)
        out   = out + lepe(x)

    Hazards:
        - The numerator is rotated and the denominator is not: weights may be negative and do not
          sum to 1.

    Differences:
        - `mlla` rotates in tiles, and computes half inputs in float32.

    Args:
        qk_bias: whether qk has a bias.
        eps: added to the mean weight.
    """
    grid, heads = ours.geometry.grid, ours.geometry.num_heads
    fills_grid("mlla_published", x.shape[1], grid)
    q, k = ours.qk(x).chunk(2, dim=-1)
    phi_q, phi_k = functional.elu(q) + 1.0, functional.elu(k) + 1.0
    turn = _turns(grid, x.shape[-1], x.dtype, x.device)
    turned = (split_heads(_turned(phi, turn), heads) for phi in (phi_q, phi_k))
    turned_q, turned_k = turned
    phi_q, phi_k, v = (split_heads(part, heads) for part in (phi_q, phi_k, x))
    mixed = merge_heads(averaged(turned_q, turned_k, v, eps, phi_q, phi_k))
    return mixed + convolve_on_grid(x, ours.lepe, grid)


def _turned(x: Tensor, turn: Tensor) -> Tensor:
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(turn * pairs).flatten(-2)


@kept
def _turns(
    grid: tuple[int, int], channels: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """One unit complex number per token and pair of channels, (N, C / 2); all heads at once."""
    per_axis = channels // 4
    frequency = _BASE ** -(torch.arange(per_axis, dtype=torch.float64) / per_axis)
    rows, columns = (torch.arange(size, dtype=torch.float64) for size in grid)
    by_row = (rows[:, None, None] * frequency).expand(*grid, -1)
    by_column = (columns[None, :, None] * frequency).expand(*grid, -1)
    angle = torch.cat((by_row, by_column), dim=-1).flatten(0, 1)
    turn = torch.polar(torch.ones_like(angle), angle)
    return turn.to(device, torch.complex64 if dtype == torch.float32 else torch.complex128)
