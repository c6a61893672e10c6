"""PolaFormer and PolaFormer++ as their authors' code computes them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..checks import fills_grid
from ..maths.heads import merge_heads, split_heads
from ..maths.vision.grid import convolve_on_grid
from ..mechanisms.polaformer import Polaformer
from ..mechanisms.polaformer_pp import PolaformerPP
from .entry import published
from .mean_weights import averaged, rotated, sines_and_cosines


@published(
    "polaformer",
    title="PolaFormer, published operators",
    source="ZacharyMeng/PolaFormer, pola_pvt.py, commit 44cdd39e",
    memory_layout="bnhd",
)
def polaformer_published(
    ours: Polaformer, q: Tensor, k: Tensor, v: Tensor, *, alpha: float, eps: float
) -> Tensor:
    """`polaformer` by its authors' operators: four powers, and a pass for each half of the values.

        x+     = relu(x / softplus(scale))^p,  x- = relu(-x / softplus(scale))^p
        p      = 1 + alpha sigmoid(power)
        same   = q+ . k+ + q- . k-
        unlike = q+ . k- + q- . k+
        out_i  = [mean_j same_ij v1_j / (mean_j same_ij + eps);
                  mean_j unlike_ij v2_j / (mean_j unlike_ij + eps)]

    Hazards:
        - Powers of up to 1 + alpha overflow float32 from norms of about 1e5 on.

    Differences:
        - `polaformer` reads the keys' sums for both halves of the values at once, and takes masks.

    Args:
        alpha: p lies between 1 and 1 + alpha.
        eps: added to the mean weights.
    """
    scale = functional.softplus(ours.scale)
    exponent = 1 + alpha * ours.power.sigmoid()[:, None]
    q, k, v = (merge_heads(x) for x in (q, k, v))
    q, k, v = (split_heads(x, len(exponent)).contiguous() for x in (q / scale, k / scale, v))
    q_above, q_below = q.relu() ** exponent, (-q).relu() ** exponent
    k_above, k_below = k.relu() ** exponent, (-k).relu() ** exponent
    like, unlike = torch.cat((q_above, q_below), -1), torch.cat((q_below, q_above), -1)
    phi_k = torch.cat((k_above, k_below), -1)
    first, second = v.chunk(2, dim=-1) if v.shape[-1] > 1 else v.tensor_split(2, dim=-1)
    mixed = (
        averaged(like, phi_k, first, eps),
        averaged(unlike, phi_k, second, eps),
    )
    return torch.cat(mixed, dim=-1)


@published(
    "polaformer_pp",
    title="PolaFormer++ layer, published operators",
    source="ZacharyMeng/PolaFormerPP, commit fd26f5e1",
)
def polaformer_pp_published(ours: PolaformerPP, x: Tensor, *, eps: float) -> Tensor:
    """`polaformer_pp` by its authors' operators: two rotated maps of each query.

        q, k, v, g    = qkvg(x)
        phi_like(q)   = exp(sigmoid(s1) [relu(q); relu(-q)]) - 1
        phi_unlike(q) = exp(sigmoid(s2) [relu(-q); relu(q)]) - 1
        phi(k)        = exp([relu(k); relu(-k)]) - 1
        mix(phi, v)_i = mean_j (R_i phi(q_i)) . (R_j phi(k_j)) v_j / z_i
        z_i           = mean_j phi(q_i) . phi(k_j) + eps
        out           = proj(([mix(phi_like, v1); mix(phi_unlike, v2)] + lepe(v)) * g)

    Hazards:
        - Exponentials are taken as they are: keys beyond 88 overflow float32, and the output is
          NaN.

    Differences:
        - `polaformer_pp` divides the largest exponential out.

    Args:
        eps: added to the mean weights.
    """
    ours, grid = ours, ours.geometry.grid
    fills_grid("polaformer_pp_published", x.shape[1], grid)
    q, k, v, gate = ours.qkvg(x).chunk(4, dim=-1)
    heads = (split_heads(part, ours.geometry.num_heads) for part in (q, k, v))
    mixed = merge_heads(_mix(ours, eps, *heads)) + convolve_on_grid(v, ours.lepe, grid)
    out: Tensor = ours.proj(mixed * gate)
    return out


def _mix(ours: PolaformerPP, eps: float, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(B, H, N, D) each -> (B, H, N, D)."""
    share, dim = k.shape[-2] ** -0.5, q.shape[-1]
    table = sines_and_cosines(ours.geometry.grid, 2 * dim, q.dtype, q.device)
    like = torch.cat((q.relu(), (-q).relu()), dim=-1)
    unlike = torch.cat((like[..., dim:], like[..., :dim]), dim=-1)
    phi_k = torch.exp(torch.cat((k.relu(), (-k).relu()), dim=-1)) - 1
    turned_k, mean_k = rotated(phi_k, *table), phi_k.mean(dim=-2, keepdim=True)
    mixed = []
    halves, slopes = v.tensor_split(2, dim=-1), (ours.s1, ours.s2)
    for signed, slope, values in zip((like, unlike), slopes, halves, strict=True):
        phi_q = torch.exp(signed * slope.sigmoid()[:, None]) - 1
        z = 1 / (phi_q @ mean_k.transpose(-2, -1) + eps)
        context = (turned_k.transpose(-2, -1) * share) @ (values * share)
        mixed.append(rotated(phi_q, *table) @ context * z)
    return torch.cat(mixed, dim=-1)
