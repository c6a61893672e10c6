"""Nystromformer as the package nystrom-attention computes it."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from ..base import AttentionLayer, CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import one_of, whole
from ..maths.heads import merge_heads, split_heads
from ..mechanisms.nystromformer import Nystromformer
from ..registry import register_attention
from .extras import load


@register_attention(
    "nystrom_peer",
    title="Nystromformer layer (nystrom-attention)",
    source="Xiong et al., 2021, arXiv:2102.03902; lucidrains/nystrom-attention",
    family="low_rank",
    capabilities=Capabilities(
        position_free=False,
        heads_independent=False,
        scopes=("layer",),
        dtypes=("float32", "float64"),
        requires=("nystrom_attention",),
        compiles=False,
    ),
)
class NystromPeer(AttentionLayer):
    """out = to_out(nystromformer(to_qkv(x)) + convolution of v) by ``NystromAttention``.

    What it computes is `nystromformer` with ``pinv_init="batch"``, between two projections, for a
    number of tokens that num_landmarks divides.

    Hazards:
        - A sample's output depends on the others in its batch: the iteration starts from the
          largest row and column sums of all of them.

    Differences:
        - Where num_landmarks does not divide N, tokens of zeros are put in front, and take part;
          `nystromformer` has a shorter last segment.

    Args:
        geometry: the shape to build for; value_dim must be head_dim.
        num_landmarks: segments.
        pinv_iters: how often the pseudo-inverse is improved.
        conv_kernel_size: width of the convolution of v along the tokens, odd; None for none.
    """

    def __init__(
        self,
        geometry: Geometry,
        num_landmarks: int = 64,
        pinv_iters: int = 6,
        conv_kernel_size: int | None = 33,
    ) -> None:
        super().__init__(geometry)
        one_of(self.name, "geometry.value_dim", geometry.value_dim, (geometry.head_dim,))
        self.num_landmarks = whole(self.name, "num_landmarks", num_landmarks, 1)
        self.core = Nystromformer(geometry, num_landmarks, pinv_iters, "batch", conv_kernel_size)
        channels = geometry.embed_dim
        self.to_qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.to_out = nn.Linear(channels, channels)
        build = load(self.name, "nystrom_attention", "NystromAttention")
        self.attention = None
        if build is not None:
            theirs = build(
                dim=channels,
                dim_head=geometry.head_dim,
                heads=geometry.num_heads,
                num_landmarks=num_landmarks,
                pinv_iterations=pinv_iters,
                residual=conv_kernel_size is not None,
                residual_conv_kernel=conv_kernel_size or 1,
            )
            theirs.to_qkv, theirs.to_out[0] = self.to_qkv, self.to_out
            if self.core.conv is not None:
                theirs.res_conv = self.core.conv
            self.attention = theirs

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        assert self.attention is not None
        out: Tensor = self.attention(x)
        return out

    def reference(self, x: Tensor) -> Tensor | None:
        """Around the slow form of `nystromformer`; None for lengths where the two part."""
        if self._padded(x.shape[1]) != x.shape[1] or x.shape[1] < 2 * self.num_landmarks:
            return None
        parts = self.to_qkv(x).chunk(3, dim=-1)
        q, k, v = (split_heads(part, self.geometry.num_heads) for part in parts)
        return cast(Tensor, self.to_out(merge_heads(self.core.reference(q, k, v))))

    def _padded(self, length: int) -> int:
        return -(-length // self.num_landmarks) * self.num_landmarks

    def flops(self, shape: CallShape) -> int:
        """Both projections, and `nystromformer` on what the padding makes of the tokens."""
        channels, length = shape.num_heads * shape.head_dim, self._padded(shape.query_len)
        landmarks, heads = self.num_landmarks, shape.batch_size * shape.num_heads
        pairs = 2 * heads * landmarks * shape.head_dim
        scores_and_mix = 2 * pairs * 2 * length + 2 * pairs * landmarks
        invert = 8 * self.core.pinv_iters * heads * landmarks**3
        taps = 0 if self.core.conv is None else self.core.conv.weight.shape[-2]
        convolve = 2 * heads * taps * length * shape.head_dim
        project = 2 * shape.batch_size * channels**2 * (3 * length + shape.query_len)
        return project + scores_and_mix + invert + convolve

    def executed_flops(self, shape: CallShape) -> int:
        """As `flops`, with the inverse applied to the N x L weights instead of to L rows.

        The padding is projected back as well, and then cut off.
        """
        channels, length = shape.num_heads * shape.head_dim, self._padded(shape.query_len)
        rows = 2 * shape.batch_size * shape.num_heads * self.num_landmarks**2
        cut_off = 2 * shape.batch_size * channels**2 * (length - shape.query_len)
        return self.flops(shape) + rows * (length - shape.head_dim) + cut_off
