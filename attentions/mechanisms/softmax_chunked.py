"""Softmax attention by the online softmax, in plain torch: memory linear in N both ways."""

from __future__ import annotations

from torch import Tensor

from ..base import Geometry
from ..capabilities import Capabilities
from ..checks import whole
from ..engines.pair import PairCore
from ..registry import register_attention
from .softmax import explicit_softmax


@register_attention(
    "softmax_chunked",
    title="Softmax (online, in plain torch)",
    source="Milakov & Gimelshein, 2018, arXiv:1805.02867; Rabe & Staats, 2021, arXiv:2112.05682",
    family="exact",
    capabilities=Capabilities(
        causal=True,
        cross=True,
        recurrent=True,
        masks=frozenset({"padding", "dense"}),
        exact=True,
    ),
)
class SoftmaxChunked(PairCore):
    """softmax(q k^T / sqrt(D)) v, a chunk of queries and a chunk of keys at a time.

    What a fused kernel does, without one: each query keeps the largest score m and the sum l of
    exponentials that it has met, and rescales what it has gathered whenever m grows,

        m' = max(m, max_j s_j),  l' = e^(m - m') l + sum_j e^(s_j - m')

    The backward pass keeps m and l of each query and recomputes the weights. A query whose keys are
    all hidden gets zeros. The state of ``step`` is a cache of keys and values for ``seq_len``
    tokens.

    Hazards:
        - Time grows with N x M, memory with N; for second derivatives with N x M too.

    Differences:
        - None known: the same function as `softmax`.

    Args:
        geometry: the shape to build for.
        chunk_size: queries and keys of a tile. On a CPU 128 to 512 take equally long: with less
            there are too many small products, with more a tile leaves the cache.
    """

    softmax = True

    def __init__(self, geometry: Geometry, chunk_size: int = 256) -> None:
        super().__init__(geometry)
        self.tile = whole(self.name, "chunk_size", chunk_size, 1)

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Exponentials over their sums."""
        return explicit_softmax(q, k, v, causal=self.geometry.causal)
