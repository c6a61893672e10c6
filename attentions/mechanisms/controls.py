"""Two controls: a task that either of them solves does not test attention."""

from __future__ import annotations

import torch
from torch import Tensor

from ..base import Attention, CallShape
from ..capabilities import Capabilities
from ..precision import widen
from ..registry import register_attention


@register_attention(
    "uniform",
    title="Uniform (mean of the values)",
    source="control",
    family="control",
    capabilities=Capabilities(
        causal=True,
        cross=True,
        masks=frozenset({"padding"}),
        exports=frozenset({"bidirectional", "causal"}),
    ),
)
class Uniform(Attention):
    """Every query gets the mean of the values that it may see, whatever it asks.

        out_i = mean_j v_j

    A query whose keys are all hidden gets zeros.

    Hazards:
        - Queries and keys are not read, so they have no gradient.
    """

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, key_mask: Tensor | None = None) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        values = widen(v)
        kept = values.new_ones(v.shape[0], 1, v.shape[-2], 1)  # 0 for a key that is hidden
        if key_mask is not None:
            kept = key_mask[:, None, :, None].to(values.dtype)
        if not self.geometry.causal:
            mean = values.sum(dim=-2, keepdim=True) / kept.sum(dim=-2, keepdim=True).clamp(min=1)
            # Copied: a broadcast view would leave the work to whoever reads it.
            return mean.to(v.dtype).expand(-1, -1, q.shape[-2], -1).contiguous()
        return (values.cumsum(dim=-2) / kept.cumsum(dim=-2).clamp(min=1)).to(v.dtype)

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Equal weights, as a matrix."""
        weights = q.new_ones(q.shape[-2], k.shape[-2])
        if self.geometry.causal:
            weights = weights.tril()
        return weights / weights.sum(dim=-1, keepdim=True) @ v

    def flops(self, shape: CallShape) -> int:
        """None: it only adds."""
        return 0


@register_attention(
    "none",
    title="None (values pass through)",
    source="control",
    family="control",
    capabilities=Capabilities(
        causal=True,
        position_free=False,
        exports=frozenset({"bidirectional", "causal"}),
    ),
)
class PassThrough(Attention):
    """No mixing: each token gets a copy of its own value.

        out_i = v_i

    The copy is the least that any mechanism does, so its time is the floor of a table.

    Hazards:
        - Queries and keys are not read, so they have no gradient.
    """

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, H, N, D), (B, H, N, D), (B, H, N, E) -> (B, H, N, E)."""
        return v.clone()

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The identity, as a matrix of weights."""
        return torch.eye(q.shape[-2], dtype=v.dtype, device=v.device) @ v

    def flops(self, shape: CallShape) -> int:
        """None: it only copies."""
        return 0
