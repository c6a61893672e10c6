"""Performer as the package performer-pytorch computes it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..base import Geometry
from ..capabilities import Capabilities
from ..checks import one_of
from ..mechanisms.performer import Performer
from ..registry import register_attention
from .extras import load


@register_attention(
    "performer_peer",
    title="Performer (performer-pytorch)",
    source="Choromanski et al., 2021, arXiv:2009.14794; lucidrains/performer-pytorch",
    family="kernel",
    capabilities=Capabilities(
        cross=True,
        dtypes=("float32", "float64"),
        requires=("performer_pytorch",),
        true_gradients=False,
        compiles=False,
    ),
)
class PerformerPeer(Performer):
    """phi(q) (phi(k)^T v) / (phi(q) . sum phi(k)) by ``performer_pytorch.FastAttention``.

    It gets the projection of `performer` with the same seed, so that outputs can be compared.

    Hazards:
        - Its causal form sees the future through the keys' maximum, and is not offered.

    Differences:
        - None from `performer`, whose floors of 1e-4 and 1e-3 are this package's; they are fixed.

    Args:
        geometry: the shape to build for; not causal.
        num_features: as for `performer`.
        kernel: ``"softmax"`` or ``"relu"``, as for `performer`.
        ortho_scaling: as for `performer`.
        projection_seed: as for `performer`; the projection is never drawn again.
    """

    def __init__(
        self,
        geometry: Geometry,
        num_features: int | None = None,
        kernel: str = "softmax",
        ortho_scaling: int = 0,
        projection_seed: int = 0,
    ) -> None:
        one_of(self.name, "kernel", kernel, ("softmax", "relu"))
        super().__init__(
            geometry,
            num_features=num_features,
            kernel=kernel,
            eps=1e-4,
            relu_eps=1e-3,
            ortho_scaling=ortho_scaling,
            redraw_interval=0,
            projection_seed=projection_seed,
        )
        build = load(self.name, "performer_pytorch", "FastAttention")
        self.attention = None
        if build is not None:
            self.attention = build(
                dim_heads=geometry.head_dim,
                nb_features=self.num_features,
                ortho_scaling=ortho_scaling,
                generalized_attention=kernel == "relu",
            )
            self.attention.projection_matrix = self.projection

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # type: ignore[override]
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        assert self.attention is not None
        out: Tensor = self.attention(q, k, v)
        return out

    def init_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> Any:
        """It has none."""
        raise TypeError(f"{self.name} has no recurrent form.")

    def step(self, q: Tensor, k: Tensor, v: Tensor, state: Any) -> tuple[Tensor, Any]:
        """It has none."""
        raise TypeError(f"{self.name} has no recurrent form.")
