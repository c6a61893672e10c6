"""The operators of published code for linear attention without, or beside, its denominator.

InLine has none; MLLA and PolaFormer++ rotate the numerator alone. As in `_official`: written to
be measured, as ``implementation=official`` of an entry. Masks are left out.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .maths.heads import split_heads


def mlla(q: Tensor, k: Tensor, x: Tensor, turn: Tensor, *, num_heads: int, eps: float) -> Tensor:
    """LeapLabTHU/MLLA, mlla.py: features with and without their rotation, each split into heads.

    Args:
        q: before the feature map, (B, N, C).
        k: the same of keys.
        x: the values, (B, N, C).
        turn: one complex number per token and pair of channels, (N, C / 2).
        num_heads: H.
        eps: added to the mean weight.

    Returns:
        (B, N, C).
    """
    share = x.shape[1] ** -0.5
    phi_q, phi_k = functional.elu(q) + 1.0, functional.elu(k) + 1.0
    turned_q, turned_k = (split_heads(_turned(phi, turn), num_heads) for phi in (phi_q, phi_k))
    phi_q, phi_k, v = (split_heads(part, num_heads) for part in (phi_q, phi_k, x))
    z = 1 / (phi_q @ phi_k.mean(dim=-2, keepdim=True).transpose(-2, -1) + eps)
    context = (turned_k.transpose(-2, -1) * share) @ (v * share)
    mixed: Tensor = turned_q @ context * z
    return mixed.transpose(1, 2).reshape(x.shape)


def _turned(x: Tensor, turn: Tensor) -> Tensor:
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(turn * pairs).flatten(-2)
