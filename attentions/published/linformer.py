"""Linformer as the common third-party code computes it."""

from __future__ import annotations

import torch
from torch import Tensor

from ..base import Geometry
from ..capabilities import Capabilities
from ..checks import equal_lengths
from ..maths.heads import merge_heads, split_heads
from ..mechanisms.linformer import Linformer
from ..registry import register_attention
from .entry import PublishedCore


@register_attention(
    "linformer_published",
    title="Linformer, published operators",
    source="lucidrains/linformer, commit 970e1c3f",
    family="published",
    capabilities=Capabilities(
        position_free=False, memory_layout="bnhd", dtypes=("float32", "float64")
    ),
)
class LinformerPublished(PublishedCore):
    """`linformer` by third-party operators: all channels are projected before heads are split.

        out = softmax(q (E^T k)^T / sqrt(D)) (F^T v)

    Hazards:
        - A sequence longer than geometry.seq_len is refused: the projections have no rows for it.

    Differences:
        - `linformer` mixes values with torch's fused attention where no gradient is wanted.

    Args:
        geometry: the shape to build for; seq_len is the greatest length.
        projected_len: P, whatever the length.
        share_kv: one matrix for keys and values, E = F.
    """

    ours: Linformer

    def __init__(
        self, geometry: Geometry, projected_len: int = 256, share_kv: bool = False
    ) -> None:
        super().__init__(geometry)
        self.ours = Linformer(geometry, projected_len=projected_len, share_kv=share_kv)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, H, N, D), (B, H, N, D), (B, H, N, E) -> (B, H, N, E)."""
        equal_lengths(self.name, q, k, "a projection along the tokens")
        seq_len, longest = k.shape[-2], self.geometry.seq_len
        if seq_len > longest:
            raise ValueError(
                f"{self.name}: {seq_len} tokens were given; it was built for {longest} at most, as "
                "each has its own row in the projection."
            )
        of_keys, of_values = self.ours.proj_k, self.ours.proj_v
        pair = ((k, of_keys), (v, of_keys if of_values is None else of_values))
        keys, values = (
            split_heads(torch.einsum("bnd,nk->bkd", merge_heads(x), p[:seq_len]), q.shape[1])
            for x, p in pair
        )
        scores = torch.einsum("bhnd,bhkd->bhnk", q, keys) * q.shape[-1] ** -0.5
        return torch.einsum("bhnk,bhkd->bhnd", scores.softmax(dim=-1), values)
