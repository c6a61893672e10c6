"""NaLa as its authors' code computes it: the release, and the version with cosine inhibition."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..base import Geometry
from ..capabilities import Capabilities
from ..checks import equal_lengths, fills_grid
from ..mechanisms.nala import Nala
from ..mechanisms.nala_cosine import NalaCosine
from ..registry import register_attention
from .entry import PublishedCore
from .mean_weights import averaged, rotated, sines_and_cosines


@register_attention(
    "nala_published",
    title="NaLa, published operators",
    source="ZacharyMeng/NaLaFormer, NaLaformer/NALA.py, commit 1f1c10ae",
    family="published",
    capabilities=Capabilities(cross=True, dtypes=("float32", "float64")),
)
class NalaPublished(PublishedCore):
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
        geometry: the shape to build for.
        rope: whether to rotate; head_dim must then be a multiple of 4.
        lam: scale of the queries' power.
        tau: its offset.
        eps: added to the mean weight.
    """

    ours: Nala

    def __init__(
        self,
        geometry: Geometry,
        rope: bool = False,
        lam: float = 3.0,
        tau: float = 0.5,
        eps: float = 1e-6,
    ) -> None:
        super().__init__(geometry)
        self.ours = Nala(geometry, rope=rope, lam=lam, tau=tau, eps=eps)
        self.rope, self.lam, self.tau, self.eps = rope, lam, tau, eps

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        k = k**3
        q_above, q_below, k_above, k_below = q.relu(), (-q).relu(), k.relu(), (-k).relu()
        norm = q.norm(dim=-1, keepdim=True)
        power = self.lam * (self.tau + norm.tanh())
        q_above, q_below = (q_above / norm) ** power, (q_below / norm) ** power
        phi_q, phi_k = torch.cat((q_above, q_below), -1), torch.cat((k_above, k_below), -1)
        if not self.rope:
            return averaged(phi_q, phi_k, v, self.eps)
        equal_lengths(self.name, q, k, "rope=True")
        fills_grid(self.name, q.shape[-2], self.geometry.grid)
        table = sines_and_cosines(self.geometry.grid, q.shape[-1], q.dtype, q.device)
        turned_q = torch.cat((rotated(q_above, *table), rotated(q_below, *table)), -1)
        turned_k = torch.cat((rotated(k_above, *table), rotated(k_below, *table)), -1)
        return averaged(turned_q, turned_k, v, self.eps, phi_q, phi_k)


@register_attention(
    "nala_cosine_published",
    title="NaLa (cosine inhibition), published operators",
    source="NaLa.py of the paper's second version, arXiv:2506.21137v2, in a third-party collection",
    family="published",
    capabilities=Capabilities(cross=True, dtypes=("float32", "float64")),
)
class NalaCosinePublished(PublishedCore):
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
        geometry: the shape to build for.
        alpha: how fast the angle saturates.
        lam: scale of the queries' power.
        tau: its offset.
        key_power: power of the keys.
        eps: added to the mean weight.
    """

    ours: NalaCosine

    def __init__(
        self,
        geometry: Geometry,
        alpha: float = 20.0,
        lam: float = 3.0,
        tau: float = 0.5,
        key_power: float = 3.0,
        eps: float = 1e-6,
    ) -> None:
        super().__init__(geometry)
        self.ours = NalaCosine(
            geometry, alpha=alpha, lam=lam, tau=tau, key_power=key_power, eps=eps
        )
        self.alpha, self.lam, self.tau = alpha, lam, tau
        self.key_power, self.eps = key_power, eps

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        q_norm, k_norm = q.norm(dim=-1, keepdim=True), k.norm(dim=-1, keepdim=True)
        direction = q / q_norm
        angle_q = torch.tanh(q / q_norm * self.alpha) * math.pi / 4
        angle_k = torch.tanh(k / k_norm * self.alpha) * math.pi / 4
        size_k = k.abs() ** self.key_power
        size_q = (direction**2) ** (self.lam / 2 * (self.tau + q_norm.tanh()))
        phi_q = torch.cat((size_q * angle_q.cos(), size_q * angle_q.sin()), -1)
        phi_k = torch.cat((size_k * angle_k.cos(), size_k * angle_k.sin()), -1)
        return averaged(phi_q, phi_k, v, self.eps)
