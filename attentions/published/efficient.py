"""Efficient Attention as its authors' code computes it."""

from __future__ import annotations

import torch
from torch import Tensor

from ..base import Geometry
from ..capabilities import Capabilities
from ..mechanisms.efficient import Efficient
from ..registry import register_attention
from .entry import PublishedCore


@register_attention(
    "efficient_published",
    title="Efficient Attention, published operators",
    source="cmsflash/efficient-attention, commit 46a5f9ea",
    family="published",
    capabilities=Capabilities(cross=True, dtypes=("float32", "float64")),
)
class EfficientPublished(PublishedCore):
    """`efficient` by its authors' operators: head by head, on images with their channels first.

        out = softmax(q over channels) (softmax(k over tokens)^T v)

    Hazards:
        - None of its own: both softmaxes are torch's, and nothing divides.

    Differences:
        - `efficient` takes all heads at once, and masks.

    Args:
        geometry: the shape to build for.
    """

    ours: Efficient

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry)
        self.ours = Efficient(geometry)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        mixed = []
        channels_first = (x.transpose(-2, -1).unbind(1) for x in (q, k, v))
        for query, key, value in zip(*channels_first, strict=True):
            context = key.softmax(dim=2) @ value.transpose(1, 2)
            mixed.append(context.transpose(1, 2) @ query.softmax(dim=1))
        return torch.stack(mixed, dim=1).transpose(-2, -1)
