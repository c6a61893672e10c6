"""The operators of published code for linear attention without, or beside, its denominator.

InLine has none; MLLA and PolaFormer++ rotate the numerator alone. As in `_official`: written to
be measured, as ``implementation=official`` of an entry. Masks are left out.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .maths.heads import split_heads


def inline(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """LeapLabTHU/InLine, inline_deit.py: the scale is shared out over whole keys and values.

    Args:
        q: (B, H, N, D).
        k: (B, H, M, D).
        v: (B, H, M, E).
    """
    scale, num_keys = q.shape[-1] ** -0.5, k.shape[-2]
    share = (scale / num_keys) ** 0.5
    context = (k.transpose(-2, -1) * share) @ (v * share)
    shift = 1 - q @ k.mean(dim=2, keepdim=True).transpose(-2, -1) * scale
    mixed: Tensor = q @ context + shift * v.mean(dim=2, keepdim=True)
    return mixed


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


def polaformer_pp(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    slopes: tuple[Tensor, Tensor],
    table: tuple[Tensor, Tensor],
    *,
    eps: float,
) -> Tensor:
    """ZacharyMeng/PolaFormerPP: two rotated maps of each query, exponentials as they are.

    Args:
        q: (B, H, N, D).
        k: (B, H, N, D).
        v: (B, H, N, D).
        slopes: before the sigmoid, (H, 2 D), of like and of unlike signs.
        table: sines and cosines of the angles, (N, 2 D) each.
        eps: added to the mean weights.
    """
    share = k.shape[-2] ** -0.5
    like = torch.cat((q.relu(), (-q).relu()), dim=-1)
    unlike = torch.cat((like[..., q.shape[-1] :], like[..., : q.shape[-1]]), dim=-1)
    phi_k = torch.exp(torch.cat((k.relu(), (-k).relu()), dim=-1)) - 1
    turned_k, mean_k = _rotated(phi_k, *table), phi_k.mean(dim=-2, keepdim=True)
    mixed = []
    halves = v.tensor_split(2, dim=-1)
    for signed, slope, values in zip((like, unlike), slopes, halves, strict=True):
        phi_q = torch.exp(signed * slope.sigmoid()[:, None]) - 1
        z = 1 / (phi_q @ mean_k.transpose(-2, -1) + eps)
        context = (turned_k.transpose(-2, -1) * share) @ (values * share)
        mixed.append(_rotated(phi_q, *table) @ context * z)
    return torch.cat(mixed, dim=-1)


def _rotated(x: Tensor, sin: Tensor, cos: Tensor) -> Tensor:
    crossed = torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)
    return x * cos + crossed * sin
