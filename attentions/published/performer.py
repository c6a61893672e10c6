"""Performer as performer-pytorch computes it."""

from __future__ import annotations

import torch
from torch import Tensor

from ..checks import one_of
from ..mechanisms.performer import Performer
from .entry import published


def _check(ours: Performer) -> None:
    one_of("performer_published", "kernel", ours.kernel, ("softmax", "relu"))
    ours.redraw_interval = 0  # it has no such setting: its projection is drawn once


def _query_features(ours: Performer, q: Tensor) -> Tensor:
    """phi(q): (B, H, N, D) -> (B, H, N, F)."""
    return _features(ours, q, (-1,))


def _key_features(ours: Performer, k: Tensor) -> Tensor:
    """phi(k): (B, H, M, D) -> (B, H, M, F)."""
    return _features(ours, k, (-1, -2))


def _features(ours: Performer, x: Tensor, peak_dims: tuple[int, ...]) -> Tensor:
    scale, projection = x.shape[-1] ** -0.25, ours.projection
    ratio = projection.shape[0] ** -0.5
    repeated = projection.repeat(*x.shape[:2], 1, 1)
    projected = torch.einsum("...id,...jd->...ij", scale * x, repeated)
    if ours.is_relu:
        return projected.relu() + ours.relu_eps
    half_square = ((x**2).sum(dim=-1) / 2 * scale**2).unsqueeze(-1)
    peak = projected.amax(dim=peak_dims, keepdim=True).detach()
    features: Tensor = ratio * (torch.exp(projected - half_square - peak) + ours.softmax_eps)
    return features


@published(
    "performer",
    title="Performer (FAVOR+), published operators",
    source="lucidrains/performer-pytorch, commit fc8b7844",
    lacks=("redraw_interval",),
    defaults={"num_features": None, "eps": 1e-4},
    check=_check,
    methods={"query_features": _query_features, "key_features": _key_features},
)
def performer_published(ours: Performer, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """`performer` by third-party operators: a projection per head, all features of all tokens.

        softmax: phi(x)_m = F^(-1/2) (exp(c w_m . x - c^2 ||x||^2 / 2 - max) + eps)
        relu:    phi(x)_m = relu(c w_m . x) + relu_eps
        out_i    = sum_j phi(q_i) . phi(k_j) v_j / sum_j phi(q_i) . phi(k_j)

    with c = D^(-1/4). The projection is drawn once.

    Hazards:
        - In float16 gradients are NaN on ordinary inputs, and squared norms overflow from norms of
          256 on.

    Differences:
        - `performer` computes half inputs in float32, takes masks, and has causal and recurrent
          forms; the causal form of this code lets later keys change earlier outputs.
        - `performer` can draw new projections while it trains.

    Args:
        num_features: F; int(D ln D) if None.
        kernel: ``"softmax"`` or ``"relu"``.
        eps: the floor of softmax features.
        relu_eps: the floor of ReLU features.
        ortho_scaling: 0 for rows as long as Gaussian vectors, 1 for all of length sqrt(D).
        projection_seed: seeds the projection.
    """
    phi_q, phi_k = _query_features(ours, q), _key_features(ours, k)
    z = 1 / torch.einsum("...nd,...d->...n", phi_q, phi_k.sum(dim=-2))
    context = torch.einsum("...nd,...ne->...de", phi_k, v)
    return torch.einsum("...de,...nd,...n->...ne", context, phi_q, z)
