"""NaLa as its authors' code computes it: the release, and the version with cosine inhibition."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..checks import equal_lengths, fills_grid
from ..mechanisms.nala import Nala
from ..mechanisms.nala_cosine import NalaCosine
from .entry import published
from .mean_weights import averaged, rotated, sines_and_cosines


@published(
    "nala",
    title="NaLa, published operators",
    source="ZacharyMeng/NaLaFormer, NaLaformer/NALA.py, commit 1f1c10ae",
    lacks=("key_power",),
)
def nala_published(
    ours: Nala, q: Tensor, k: Tensor, v: Tensor, *, rope: bool, lam: float, tau: float, eps: float
) -> Tensor:
    """`nala` by its authors' operators: two powers of each query, both halves side by side.

        p(q)   = lam (tau + tanh ||q||)
        phi(q) = [(relu(q) / ||q||)^p(q); (relu(-q) / ||q||)^p(q)]
        phi(k) = [relu(k^3); relu(-k^3)]
        out_i  = mean_j phi(q_i) . phi(k_j) v_j / (mean_j phi(q_i) . phi(k_j) + eps)

    Hazards:
        - A zero query is 0 / 0: its output is NaN, as are the gradients of all keys and values of
          its head.

    Differences:
        - `nala` gives a zero query zeros, takes masks, and any power of the keys.

    Args:
        rope: whether to rotate; head_dim must then be a multiple of 4.
        lam: scale of the queries' power.
        tau: its offset.
        eps: added to the mean weight.
    """
    k = k**3
    q_above, q_below, k_above, k_below = q.relu(), (-q).relu(), k.relu(), (-k).relu()
    norm = q.norm(dim=-1, keepdim=True)
    power = lam * (tau + norm.tanh())
    q_above, q_below = (q_above / norm) ** power, (q_below / norm) ** power
    phi_q, phi_k = torch.cat((q_above, q_below), -1), torch.cat((k_above, k_below), -1)
    if not rope:
        return averaged(phi_q, phi_k, v, eps)
    equal_lengths("nala_published", q, k, "rope=True")
    fills_grid("nala_published", q.shape[-2], ours.geometry.grid)
    table = sines_and_cosines(ours.geometry.grid, q.shape[-1], q.dtype, q.device)
    turned_q = torch.cat((rotated(q_above, *table), rotated(q_below, *table)), -1)
    turned_k = torch.cat((rotated(k_above, *table), rotated(k_below, *table)), -1)
    return averaged(turned_q, turned_k, v, eps, phi_q, phi_k)


@published(
    "nala_cosine",
    title="NaLa (cosine inhibition), published operators",
    source="NaLa.py of the paper's second version, arXiv:2506.21137v2, in a third-party collection",
)
def nala_cosine_published(
    ours: NalaCosine,
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
    """`nala_cosine` by its authors' operators: a power of squares, four trigonometric maps.

        theta(x) = pi / 4 tanh(alpha x / ||x||)
        phi(q)   = (d(q)^2)^(p(q) / 2) [cos theta(q); sin theta(q)],  p(q) = lam (tau + tanh ||q||)
        phi(k)   = |k|^key_power [cos theta(k); sin theta(k)]
        out_i    = mean_j phi(q_i) . phi(k_j) v_j / (mean_j phi(q_i) . phi(k_j) + eps)

    Hazards:
        - A zero query is 0 / 0: its output is NaN, as are the gradients of its head. A zero key
          makes the whole head NaN.

    Differences:
        - `nala_cosine` gives zero queries zeros, gives zero keys no weight, and takes masks.

    Args:
        alpha: how fast the angle saturates.
        lam: scale of the queries' power.
        tau: its offset.
        key_power: power of the keys.
        eps: added to the mean weight.
    """
    q_norm, k_norm = q.norm(dim=-1, keepdim=True), k.norm(dim=-1, keepdim=True)
    direction = q / q_norm
    angle_q = torch.tanh(q / q_norm * alpha) * math.pi / 4
    angle_k = torch.tanh(k / k_norm * alpha) * math.pi / 4
    size_k = k.abs() ** key_power
    size_q = (direction**2) ** (lam / 2 * (tau + q_norm.tanh()))
    phi_q = torch.cat((size_q * angle_q.cos(), size_q * angle_q.sin()), -1)
    phi_k = torch.cat((size_k * angle_k.cos(), size_k * angle_k.sin()), -1)
    return averaged(phi_q, phi_k, v, eps)
