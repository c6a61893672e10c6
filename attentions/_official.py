"""The operators of the authors' own code, one after the other, written as functions.

They are here to be measured, as ``implementation=official`` of an entry: how much faster or slower
is this project's form of the same function? Two powers where one would do, halves put side by
side, weights repeated over heads: all as it is over there, and so are the places where it gives
NaN. Projections, norms and gates around the core are left out. Masks are not taken.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor
from torch.nn import functional

from .maths.heads import split_heads
from .maths.rotary import turns


def _averaged(phi_q: Tensor, phi_k: Tensor, v: Tensor, eps: float, *plain: Tensor) -> Tensor:
    """phi(q) (phi(k)^T v) over the mean weight; ``plain`` features go into the latter instead."""
    mean_q, mean_k = plain or (phi_q, phi_k)
    share = phi_k.shape[-2] ** -0.5
    z = 1 / (mean_q @ mean_k.mean(dim=-2, keepdim=True).transpose(-2, -1) + eps)
    context = (phi_k.transpose(-2, -1) * share) @ (v * share)
    mixed: Tensor = phi_q @ context * z
    return mixed


def nala(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    lam: float,
    tau: float,
    eps: float,
    table: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """ZacharyMeng/NaLaFormer, NaLaformer/NALA.py: two powers of each query, two halves of all.

    Args:
        q: (B, H, N, D), as are k and v.
        k: keys.
        v: values.
        lam: as for `attentions.mechanisms.nala.Nala`, as are the others.
        tau: offset of the power.
        eps: added to the mean weight.
        table: sines and cosines of every channel's angle, (N, D) each; None for no rotation.
    """
    k = k**3
    q_above, q_below, k_above, k_below = q.relu(), (-q).relu(), k.relu(), (-k).relu()
    norm = q.norm(dim=-1, keepdim=True)
    power = lam * (tau + norm.tanh())
    q_above, q_below = (q_above / norm) ** power, (q_below / norm) ** power
    phi_q, phi_k = torch.cat((q_above, q_below), -1), torch.cat((k_above, k_below), -1)
    if table is None:
        return _averaged(phi_q, phi_k, v, eps)
    turned_q = torch.cat((_turned(q_above, *table), _turned(q_below, *table)), -1)
    turned_k = torch.cat((_turned(k_above, *table), _turned(k_below, *table)), -1)
    return _averaged(turned_q, turned_k, v, eps, phi_q, phi_k)


@functools.lru_cache(maxsize=8)
def angles(
    grid: tuple[int, int], dim: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The sines and cosines that `nala` takes: made once, as there."""
    turn = turns(grid, dim, dtype, device)
    return turn.imag.repeat_interleave(2, dim=-1), turn.real.repeat_interleave(2, dim=-1)


def _turned(x: Tensor, sin: Tensor, cos: Tensor) -> Tensor:
    crossed = torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)
    return x * cos + crossed * sin


def nala_cosine(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    alpha: float,
    lam: float,
    tau: float,
    key_power: float,
    eps: float,
) -> Tensor:
    """The code of the paper's second version: a power of squares, and four trigonometric maps."""
    q_norm, k_norm = q.norm(dim=-1, keepdim=True), k.norm(dim=-1, keepdim=True)
    direction = q / q_norm
    angle_q = torch.tanh(q / q_norm * alpha) * math.pi / 4
    angle_k = torch.tanh(k / k_norm * alpha) * math.pi / 4
    size_k = k.abs() ** key_power
    size_q = (direction**2) ** (lam / 2 * (tau + q_norm.tanh()))
    phi_q = torch.cat((size_q * angle_q.cos(), size_q * angle_q.sin()), -1)
    phi_k = torch.cat((size_k * angle_k.cos(), size_k * angle_k.sin()), -1)
    return _averaged(phi_q, phi_k, v, eps)


def flatten(q: Tensor, k: Tensor, v: Tensor, scale: Tensor, *, factor: float, eps: float) -> Tensor:
    """LeapLabTHU/FLatten-Transformer, flatten_swin.py: focus all channels, then split heads.

    Args:
        q: (B, N, C).
        k: (B, M, C).
        v: (B, H, M, D).
        scale: before softplus, (C,).
        factor: the power.
        eps: floor of the features, and added to the mean weight.

    Returns:
        (B, H, N, D).
    """
    scale = functional.softplus(scale)
    phi_q, phi_k = (split_heads(_focused(x, scale, factor, eps), v.shape[1]) for x in (q, k))
    return _averaged(phi_q, phi_k, v, eps)


def _focused(x: Tensor, scale: Tensor, factor: float, eps: float) -> Tensor:
    x = (x.relu() + eps) / scale
    length = x.norm(dim=-1, keepdim=True)
    x = x**factor
    focused: Tensor = x / x.norm(dim=-1, keepdim=True) * length
    return focused


def linear(q: Tensor, k: Tensor, v: Tensor, *, eps: float) -> Tensor:
    """idiap/fast-transformers, linear_attention.py: (B, N, H, D) throughout, by einsum."""
    phi_q, phi_k = functional.elu(q) + 1, functional.elu(k) + 1
    context = torch.einsum("nshd,nshm->nhmd", phi_k, v)
    z = 1 / (torch.einsum("nlhd,nhd->nlh", phi_q, phi_k.sum(dim=1)) + eps)
    return torch.einsum("nlhd,nhmd,nlh->nlhm", phi_q, context, z)


def performer(
    q: Tensor, k: Tensor, v: Tensor, projection: Tensor, *, kernel: str, eps: float
) -> Tensor:
    """lucidrains/performer-pytorch: a projection per head, and all features of all tokens."""
    phi_q = _random_features(q, projection, kernel, eps, peak_dims=(-1,))
    phi_k = _random_features(k, projection, kernel, eps, peak_dims=(-1, -2))
    z = 1 / torch.einsum("...nd,...d->...n", phi_q, phi_k.sum(dim=-2))
    context = torch.einsum("...nd,...ne->...de", phi_k, v)
    return torch.einsum("...de,...nd,...n->...ne", context, phi_q, z)


def _random_features(
    x: Tensor, projection: Tensor, kernel: str, eps: float, *, peak_dims: tuple[int, ...]
) -> Tensor:
    scale = x.shape[-1] ** -0.25
    ratio = projection.shape[0] ** -0.5
    repeated = projection.repeat(*x.shape[:2], 1, 1)
    projected = torch.einsum("...id,...jd->...ij", scale * x, repeated)
    if kernel == "relu":
        return projected.relu() + eps
    half_square = ((x**2).sum(dim=-1) / 2 * scale**2).unsqueeze(-1)
    peak = projected.amax(dim=peak_dims, keepdim=True).detach()
    features: Tensor = ratio * (torch.exp(projected - half_square - peak) + eps)
    return features


def polaformer(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: Tensor,
    power: Tensor,
    *,
    alpha: float,
    eps: float,
) -> Tensor:
    """ZacharyMeng/PolaFormer, pola_pvt.py: four powers, and a pass for each half of the values.

    Args:
        q: (B, N, C).
        k: (B, M, C).
        v: (B, M, C).
        scale: before softplus, (C,).
        power: before the sigmoid, (H, D).
        alpha: p lies between 1 and 1 + alpha.
        eps: added to the mean weights.

    Returns:
        (B, H, N, D).
    """
    scale, exponent = functional.softplus(scale), 1 + alpha * power.sigmoid()[:, None]
    heads = len(power)
    q, k, v = (split_heads(x, heads).contiguous() for x in (q / scale, k / scale, v))
    q_above, q_below = q.relu() ** exponent, (-q).relu() ** exponent
    k_above, k_below = k.relu() ** exponent, (-k).relu() ** exponent
    like, unlike = torch.cat((q_above, q_below), -1), torch.cat((q_below, q_above), -1)
    phi_k = torch.cat((k_above, k_below), -1)
    first, second = v.chunk(2, dim=-1)
    mixed = (_averaged(like, phi_k, first, eps), _averaged(unlike, phi_k, second, eps))
    return torch.cat(mixed, dim=-1)


def efficient(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """cmsflash/efficient-attention: head by head, on images, which have their channels first.

    Args:
        q: (B, H, D, N).
        k: (B, H, D, M).
        v: (B, H, E, M).

    Returns:
        (B, H, E, N).
    """
    mixed = []
    for query, key, value in zip(*(x.unbind(1) for x in (q, k, v)), strict=True):
        context = key.softmax(dim=2) @ value.transpose(1, 2)
        mixed.append(context.transpose(1, 2) @ query.softmax(dim=1))
    return torch.stack(mixed, dim=1)


def cosformer(q: Tensor, k: Tensor, v: Tensor, *, eps: float) -> Tensor:
    """OpenNLPLab/cosFormer: features of 2 D channels, and a table of angles at each call.

    Over there the table is in float32; here it is as precise as q.

    Args:
        q: (B H, N, D), a view of tokens that have their channels last.
        k: (B H, M, D).
        v: (B H, M, E).
        eps: the least sum of weights.
    """
    q, k = q.relu(), k.relu()
    num_queries, num_keys = q.shape[1], k.shape[1]
    longest = max(num_queries, num_keys)
    index = math.pi / 2 * torch.arange(1, longest + 1, device=q.device).to(q).reshape(1, -1, 1)
    of_queries, of_keys = index[:, :num_queries] / longest, index[:, :num_keys] / longest
    phi_q = torch.cat((q * of_queries.sin(), q * of_queries.cos()), dim=-1)
    phi_k = torch.cat((k * of_keys.sin(), k * of_keys.cos()), dim=-1)
    context = torch.einsum("nld,nlm->ndm", phi_k, v)
    z = 1 / torch.einsum("nld,nd->nl", phi_q, phi_k.sum(dim=1)).clamp_min(eps)
    return torch.einsum("nld,ndm,nl->nlm", phi_q, context, z)
