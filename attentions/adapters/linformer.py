"""Linformer as the package linformer computes it."""

from __future__ import annotations

from torch import Tensor

from ..base import Geometry
from ..capabilities import Capabilities
from ..mechanisms.linformer_layer import LinformerLayer
from ..registry import register_attention
from .extras import load


@register_attention(
    "linformer_peer",
    title="Linformer layer (linformer)",
    source="Wang et al., 2020, arXiv:2006.04768; lucidrains/linformer",
    family="low_rank",
    capabilities=Capabilities(
        position_free=False,
        heads_independent=False,
        scopes=("layer",),
        dtypes=("float32", "float64"),
        requires=("linformer",),
        compiles=False,
    ),
)
class LinformerPeer(LinformerLayer):
    """out = to_out(linformer(to_q(x), to_k(x), to_v(x))) by ``LinformerSelfAttention``.

    It works with the parameters of `linformer_layer`, so that outputs can be compared.

    Hazards:
        - Those of `linformer_layer`.

    Differences:
        - ``share_kv`` shares the projections of channels as well as those of tokens, as this
          package has it; in the paper it is those of tokens only.

    Args:
        geometry: the shape to build for; value_dim must be head_dim.
        projected_len: as for `linformer_layer`.
        share_kv: one projection of channels and one of tokens for keys and values.
    """

    def __init__(
        self, geometry: Geometry, projected_len: int = 256, share_kv: bool = False
    ) -> None:
        super().__init__(geometry, projected_len, share_kv, values_are_keys=share_kv)
        build = load(self.name, "linformer", "LinformerSelfAttention")
        self.attention = None
        if build is not None:
            theirs = build(
                dim=geometry.embed_dim,
                seq_len=geometry.seq_len,
                k=projected_len,
                heads=geometry.num_heads,
                share_kv=share_kv,
            )
            theirs.to_q, theirs.to_k, theirs.to_out = self.to_q, self.to_k, self.to_out
            theirs.proj_k = self.core.proj_k
            if not share_kv:
                theirs.to_v, theirs.proj_v = self.to_v, self.core.proj_v
            self.attention = theirs

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        assert self.attention is not None
        if x.shape[1] > self.geometry.seq_len:  # theirs asserts it
            raise ValueError(
                f"{self.name}: {x.shape[1]} tokens were given; it was built for "
                f"{self.geometry.seq_len} at most, as each has its own row in the projection."
            )
        out: Tensor = self.attention(x)
        return out
