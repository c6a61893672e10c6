"""Softmax attention within a window around each token, in time and memory linear in N."""

from __future__ import annotations

from torch import Tensor

from ..base import CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import whole
from ..engines.band import Band, banded
from ..engines.pair import Attend, PairCore
from ..maths.pairs.tiles import Tiling
from ..precision import widen
from ..registry import register_attention


@register_attention(
    "sliding_window",
    title="Sliding window",
    source="Beltagy et al., 2020, Longformer, arXiv:2004.05150",
    family="sparse",
    capabilities=Capabilities(causal=True, recurrent=True, position_free=False),
)
class SlidingWindow(PairCore):
    """Softmax attention of query i to the keys from i - window to i + window; causal, to i.

        out_i = softmax(q_i k_j^T / sqrt(D) over |i - j| <= window) v_j

    Blocks of queries meet the block of keys that all their windows lie in. The state of ``step`` is
    a ring of the last window + 1 tokens, so that a decoded token finds itself and its window.

    Hazards:
        - A key outside of the window is not seen, however well it matches: far tokens meet over
          several layers only.
        - Gradients at very large scores are those of torch's kernel: see `softmax`.

    Differences:
        - Longformer counts both sides of the window together, here each side counts: its 512 is
          256.
        - Longformer's global tokens and dilation are not offered.
        - Mistral, Gemma and gpt-oss count the query itself: their window of W tokens is W - 1 here,
          and W in `softmax_sinks` and `fox`, which count as they do.

    Args:
        geometry: the shape to build for.
        window: the largest distance of a key that is seen, to either side. Longformer counts both
            sides together: its 512 is 256 here.
    """

    softmax = True

    def __init__(self, geometry: Geometry, window: int = 256) -> None:
        super().__init__(geometry)
        self.distance = whole(self.name, "window", window, 0)
        self.window = self.distance + 1  # the engine counts the query too

    def mix(self, attend: Attend, q: Tensor, k: Tensor, v: Tensor, *gates: Tensor) -> Tensor:
        """All blocks at once; one query meets its ring."""
        if q.shape[2] == 1:
            return attend(q, k, v)
        return banded(q, widen(k), widen(v), attend.tiling)

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The N x N weights, those outside of the band zero."""
        weights = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).exp()
        weights = weights.tril(0 if self.geometry.causal else self.distance).triu(-self.distance)
        out: Tensor = weights / weights.sum(dim=-1, keepdim=True) @ v
        return out

    def executed_flops(self, shape: CallShape) -> int:
        """As `flops`, for all pairs of each block."""
        n, m = shape.query_len, shape.key_len
        tiling = Tiling(
            query_len=n, key_len=m, size=self.tile, causal=shape.causal, window=self.window
        )
        pairs = shape.batch_size * shape.num_heads * Band.of(tiling).pairs
        return 2 * pairs * self.pair_width(shape)
