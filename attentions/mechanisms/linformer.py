"""Linformer: keys and values are projected along the sequence to a fixed length."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..base import Attention, CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import flag, whole
from ..maths.heads import merge_heads, split_heads
from ..precision import in_wide_precision, widen
from ..registry import register_attention


@register_attention(
    "linformer",
    title="Linformer",
    source="Wang et al., 2020, arXiv:2006.04768",
    family="low_rank",
    capabilities=Capabilities(
        position_free=False,
        memory_layout="bnhd",
        exports=frozenset({"bidirectional"}),
    ),
)
class Linformer(Attention):
    """softmax(q (E^T k)^T / sqrt(D)) (F^T v) with learned N x P matrices E and F.

    All heads share them; they are what the paper writes as E and F, transposed. As each row stands
    for a position, there is a greatest length, geometry.seq_len; shorter sequences use the first
    rows. Every projected row mixes all tokens, so there is no causal form.

    There is no official PyTorch code. Starting values are those of the common third-party code,
    uniform within 1 / sqrt(P).

    Hazards:
        - A sequence longer than geometry.seq_len is refused: the projections have no rows for it.
        - Projected rows mix all tokens, so padding cannot be hidden and there is no causal form.

    Differences:
        - There is no official PyTorch code; ours follows the paper and takes the starting values of
          lucidrains/linformer.
        - In that code ``share_kv`` shares the projections of channels as well, in the paper those
          of tokens only: see `linformer_layer`.

    Args:
        geometry: the shape to build for; seq_len is the greatest length.
        projected_len: P, whatever the length; 256 is among the paper's settings.
        share_kv: one matrix for keys and values, E = F, the paper's key-value sharing.
    """

    def __init__(
        self,
        geometry: Geometry,
        projected_len: int = 256,
        share_kv: bool = False,
    ) -> None:
        super().__init__(geometry)
        self.projected_len = whole(self.name, "projected_len", projected_len, 1)
        self.proj_k = self._drawn()
        self.proj_v = None if flag(self.name, "share_kv", share_kv) else self._drawn()

    def _drawn(self) -> nn.Parameter:
        bound = 1 / math.sqrt(self.projected_len)
        sizes = (self.geometry.seq_len, self.projected_len)
        return nn.Parameter(torch.empty(sizes).uniform_(-bound, bound))

    @in_wide_precision
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, H, N, D), (B, H, N, D), (B, H, N, E) -> (B, H, N, E)."""
        keys, values = (self._project(p, x) for p, x in zip(self._pair(), (k, v), strict=True))
        return functional.scaled_dot_product_attention(q, keys, values)

    def _project(self, projection: Tensor, x: Tensor) -> Tensor:
        """E^T k: (B, H, N, D) -> (B, H, P, D)."""
        rows = self._rows(projection, x).T.expand(len(x), -1, -1)
        # One product for all heads, which share the rows. Without `expand` torch would lay the
        # result down transposed, and copy it.
        return split_heads(rows @ merge_heads(x), x.shape[1])

    def _pair(self) -> tuple[Tensor, Tensor]:
        return self.proj_k, self.proj_k if self.proj_v is None else self.proj_v

    def _rows(self, projection: Tensor, k: Tensor) -> Tensor:
        """The rows of the tokens that are there: (N, P)."""
        seq_len = k.shape[-2]
        if seq_len > self.geometry.seq_len:
            raise ValueError(
                f"{self.name}: {seq_len} tokens were given; it was built for "
                f"{self.geometry.seq_len} at most, as each has its own row in the projection."
            )
        return widen(projection)[:seq_len].to(k.dtype)

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Row by row of the projections, and the softmax written out."""
        seq_len = q.shape[-2]
        keys, values = (
            torch.einsum("np,bhnd->bhpd", p[:seq_len].to(x.dtype), x)
            for p, x in zip(self._pair(), (k, v), strict=True)
        )
        scores = torch.einsum("bhnd,bhpd->bhnp", q, keys) / math.sqrt(q.shape[-1])
        weights = (scores - scores.amax(dim=-1, keepdim=True)).exp()
        return weights / weights.sum(dim=-1, keepdim=True) @ values

    def flops(self, shape: CallShape) -> int:
        """Both projections, scores and the mix of values."""
        per_row = 2 * self.projected_len * (shape.head_dim + shape.value_dim)
        return per_row * (shape.num_tokens + shape.num_keys)
