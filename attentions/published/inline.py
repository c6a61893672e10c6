"""InLine attention as its authors' code computes it."""

from __future__ import annotations

from torch import Tensor

from ..base import CallShape, Geometry
from ..capabilities import Capabilities
from ..mechanisms.inline import InLine
from ..registry import register_attention
from .entry import PublishedCore


@register_attention(
    "inline_published",
    title="InLine, published operators",
    source="LeapLabTHU/InLine, inline_deit.py, commit e463a6f4",
    family="published",
    capabilities=Capabilities(cross=True, dtypes=("float32", "float64")),
)
class InLinePublished(PublishedCore):
    """`inline` by its authors' operators: the scale is shared out over whole keys and values.

        w_ij  = s_ij / M - mean_j s_ij / M + 1 / M,  s_ij = q_i . k_j / sqrt(D)
        out_i = sum_j w_ij v_j

    Hazards:
        - Weights grow with queries and keys, and nothing bounds them.

    Differences:
        - `inline` reads the covariance of keys and values, and takes masks.

    Args:
        geometry: the shape to build for.
    """

    ours: InLine

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry)
        self.ours = InLine(geometry)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        scale, num_keys = q.shape[-1] ** -0.5, k.shape[-2]
        share = (scale / num_keys) ** 0.5
        context = (k.transpose(-2, -1) * share) @ (v * share)
        shift = 1 - q @ k.mean(dim=2, keepdim=True).transpose(-2, -1) * scale
        mixed: Tensor = q @ context + shift * v.mean(dim=2, keepdim=True)
        return mixed

    def executed_flops(self, shape: CallShape) -> int:
        """Besides, every query meets the mean of the keys."""
        return self.flops(shape) + 2 * shape.num_tokens * shape.head_dim
