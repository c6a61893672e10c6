"""Rotary position encoding: in two dimensions, as NaLaFormer uses it, and along a sequence.

Rotating by an angle is multiplying by a complex number of length 1, so two adjacent channels
(x0, x1) are taken as x0 + i x1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..checks import flag
from ..precision import wide_dtype, widen
from .tables import kept

_BASE = 10_000.0

# Not `dtype.to_complex()`, which stops torch.compile.
_COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}


def rope_if_it_fits(mechanism: str, rope: bool, head_dim: int) -> bool:
    """Whether a mechanism turns its heads, as its argument ``rope`` says.

    Raises:
        ValueError: ``rope`` is neither true nor false, or heads of this width cannot be turned.
    """
    if flag(mechanism, "rope", rope) and head_dim % 4:
        raise ValueError(
            f"{mechanism}: head_dim is {head_dim}; a multiple of 4 is needed with rope=True, which "
            "turns pairs of channels by row and by column."
        )
    return rope


@kept
def turns(
    grid: tuple[int, int],
    dim: int,
    dtype: torch.dtype,
    device: torch.device,
    *,
    with_last: bool = True,
) -> Tensor:
    """One unit complex number per token and pair of channels: (N, dim / 2).

    There are dim / 4 frequencies, from 1 down to 1/10000. The first half of the
    channels turns with the row, the second with the column. Angles are taken in float64: their
    rounding would grow with the position.

    Args:
        grid: (rows, columns), tokens row by row.
        dim: channels, a multiple of 4.
        dtype: the real dtype of the features to rotate.
        device: where they are.
        with_last: whether 1/10000 is one of the frequencies.
    """
    steps = dim // 4 if with_last else dim // 4 + 1
    frequency = _BASE ** -torch.linspace(0, 1, steps, dtype=torch.float64)[: dim // 4]
    rows, columns = (torch.arange(size, dtype=torch.float64) for size in grid)
    by_row = (rows[:, None, None] * frequency).expand(*grid, -1)
    by_column = (columns[None, :, None] * frequency).expand(*grid, -1)
    angle = torch.cat((by_row, by_column), dim=-1).flatten(0, 1)
    return torch.polar(torch.ones_like(angle), angle).to(device, _COMPLEX[dtype])


def rotate(phi: Tensor, grid: tuple[int, int], dim: int) -> Tensor:
    """Rotate each block of ``dim`` channels by its token's place: (..., N, F) -> (..., N, F)."""
    turn = turns(grid, dim, phi.dtype, phi.device)
    pairs = torch.unflatten(as_pairs(phi), -1, (-1, dim // 2))  # (..., N, F/dim, dim/2)
    return torch.view_as_real(pairs * turn[:, None, :]).flatten(-3)


def as_pairs(x: Tensor) -> Tensor:
    """Adjacent channels as complex numbers, (..., F) -> (..., F / 2).

    A view, unless they lie apart in memory.
    """
    pairs = torch.unflatten(x, -1, (-1, 2))
    return torch.view_as_complex(pairs if x.stride(-1) == 1 else pairs.contiguous())


def reference_rotate(phi: Tensor, grid: tuple[int, int], dim: int) -> Tensor:
    """Slow form of `rotate`, in sines and cosines of each channel's own angle."""
    token = torch.arange(grid[0] * grid[1], dtype=phi.dtype, device=phi.device)
    row, column = token.div(grid[1], rounding_mode="floor"), token.remainder(grid[1])
    steps = max(dim // 4 - 1, 1)
    rotated = []
    for channel in range(0, phi.shape[-1], 2):
        pair = channel % dim // 2
        frequency = _BASE ** -(pair % (dim // 4) / steps)
        angle = (row if pair < dim // 4 else column) * frequency
        x0, x1 = phi[..., channel], phi[..., channel + 1]
        rotated += [x0 * angle.cos() - x1 * angle.sin(), x1 * angle.cos() + x0 * angle.sin()]
    return torch.stack(rotated, dim=-1)


def turn_pairs(x: Tensor, places: Tensor) -> Tensor:
    """Turn adjacent channels by an angle that grows with the token: (..., N, F) -> (..., N, F).

    Pair p of F / 2 turns by place * 10000^(-2 p / F): Su et al., 2021, arXiv:2104.09864. Angles are
    taken in float64: their rounding would grow with the position.

    Args:
        x: (..., N, F) with an even F.
        places: whole numbers that broadcast to (..., N).
    """
    width = x.shape[-1]
    pair = torch.arange(0, width, 2, dtype=torch.float64, device=x.device) / max(width, 1)
    angle = places.unsqueeze(-1) * _BASE**-pair  # (..., N, F / 2)
    cosine, sine = (part.to(wide_dtype(x.dtype)) for part in (angle.cos(), angle.sin()))
    one, other = widen(x)[..., ::2], widen(x)[..., 1::2]
    turned = torch.stack((one * cosine - other * sine, one * sine + other * cosine), dim=-1)
    return turned.flatten(-2).to(x.dtype)
