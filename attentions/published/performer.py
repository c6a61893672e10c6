"""Performer as performer-pytorch computes it."""

from __future__ import annotations

import torch
from torch import Tensor

from ..base import Geometry
from ..capabilities import Capabilities
from ..checks import one_of
from ..mechanisms.performer import Performer
from ..registry import register_attention
from .entry import PublishedCore


@register_attention(
    "performer_published",
    title="Performer (FAVOR+), published operators",
    source="lucidrains/performer-pytorch, commit fc8b7844",
    family="published",
    capabilities=Capabilities(cross=True, true_gradients=False, dtypes=("float32", "float64")),
)
class PerformerPublished(PublishedCore):
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
        geometry: the shape to build for.
        num_features: F; int(D ln D) if None.
        kernel: ``"softmax"`` or ``"relu"``.
        eps: the floor of softmax features.
        relu_eps: the floor of ReLU features.
        ortho_scaling: 0 for rows as long as Gaussian vectors, 1 for all of length sqrt(D).
        projection_seed: seeds the projection.
    """

    ours: Performer

    def __init__(
        self,
        geometry: Geometry,
        num_features: int | None = None,
        kernel: str = "softmax",
        eps: float = 1e-4,
        relu_eps: float = 1e-3,
        ortho_scaling: int = 0,
        projection_seed: int = 0,
    ) -> None:
        super().__init__(geometry)
        self.kernel = one_of(self.name, "kernel", kernel, ("softmax", "relu"))
        self.eps = relu_eps if kernel == "relu" else eps
        self.ours = Performer(
            geometry,
            num_features=num_features,
            kernel=kernel,
            eps=eps,
            relu_eps=relu_eps,
            ortho_scaling=ortho_scaling,
            redraw_interval=0,
            projection_seed=projection_seed,
        )

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        phi_q, phi_k = self.query_features(q), self.key_features(k)
        z = 1 / torch.einsum("...nd,...d->...n", phi_q, phi_k.sum(dim=-2))
        context = torch.einsum("...nd,...ne->...de", phi_k, v)
        return torch.einsum("...de,...nd,...n->...ne", context, phi_q, z)

    def query_features(self, q: Tensor) -> Tensor:
        """phi(q): (B, H, N, D) -> (B, H, N, F)."""
        return self._features(q, (-1,))

    def key_features(self, k: Tensor) -> Tensor:
        """phi(k): (B, H, M, D) -> (B, H, M, F)."""
        return self._features(k, (-1, -2))

    def _features(self, x: Tensor, peak_dims: tuple[int, ...]) -> Tensor:
        scale, projection = x.shape[-1] ** -0.25, self.ours.projection
        ratio = projection.shape[0] ** -0.5
        repeated = projection.repeat(*x.shape[:2], 1, 1)
        projected = torch.einsum("...id,...jd->...ij", scale * x, repeated)
        if self.kernel == "relu":
            return projected.relu() + self.eps
        half_square = ((x**2).sum(dim=-1) / 2 * scale**2).unsqueeze(-1)
        peak = projected.amax(dim=peak_dims, keepdim=True).detach()
        features: Tensor = ratio * (torch.exp(projected - half_square - peak) + self.eps)
        return features
