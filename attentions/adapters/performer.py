"""Performer as the package performer-pytorch computes it."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor

from ..base import CallShape, Geometry
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
        causal=True,
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
        - Its causal form sees the future: the maximum of the keys' features is taken over all
          tokens. Tables mark it, and give it no rank.

    Differences:
        - None from `performer` with this package's floors of 1e-4 and 1e-3, which are fixed.
        - Causal, besides the maximum, 1e-6 is added to each sum of features that divides.

    Args:
        geometry: the shape to build for.
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
        self.shares_heads = False
        build = load(self.name, "performer_pytorch", "FastAttention")
        self.attention = None
        if build is not None:
            with contextlib.redirect_stdout(None):  # it prints that it has no CUDA code
                self.attention = build(
                    dim_heads=geometry.head_dim,
                    nb_features=self.num_features,
                    ortho_scaling=ortho_scaling,
                    causal=geometry.causal,
                    generalized_attention=kernel == "relu",
                )
            self.attention.projection_matrix = self.projection

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # type: ignore[override]
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        assert self.attention is not None
        out: Tensor = self.attention(q, k, v)
        return out

    def reference(  # type: ignore[override]
        self, q: Tensor, k: Tensor, v: Tensor
    ) -> Tensor | None:
        """That of `performer`; None for the causal form, which computes something else."""
        return None if self.geometry.causal else super().reference(q, k, v)

    def flops(self, shape: CallShape) -> int:
        """The causal form multiplies each key by its value elementwise, which is not counted."""
        if not shape.causal:
            return super().flops(shape)
        per_token = 2 * self.num_features * (shape.value_dim + 1)
        return self.map_flops(shape) + shape.num_tokens * per_token

    def executed_flops(self, shape: CallShape) -> int:
        """Nothing besides."""
        return self.flops(shape)

    def init_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> Any:
        """It has none."""
        raise TypeError(f"{self.name} has no recurrent form.")

    def step(self, q: Tensor, k: Tensor, v: Tensor, state: Any) -> tuple[Tensor, Any]:  # type: ignore[override]
        """It has none."""
        raise TypeError(f"{self.name} has no recurrent form.")
