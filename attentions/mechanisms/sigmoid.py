"""Sigmoid attention: weights are independent of each other and not normalised."""

from __future__ import annotations

import math

from torch import Tensor

from ..base import Geometry
from ..capabilities import Capabilities
from ..checks import at_least, whole
from ..engines.pair import PairCore
from ..registry import register_attention

_LEAST_BIAS = -100.0
"""Lower ones put every weight below the smallest float32 number."""


@register_attention(
    "sigmoid",
    title="Sigmoid attention",
    source="Ramapuram et al., 2024, arXiv:2409.04431",
    family="exact",
    capabilities=Capabilities(
        causal=True, cross=True, recurrent=True, masks=frozenset({"padding", "dense"})
    ),
)
class Sigmoid(PairCore):
    """out_i = sum_j sigmoid(q_i . k_j / sqrt(D) + b) v_j.

    With b = -log N the weights of a query add up to about 1 while scores are small, as those of a
    softmax do. N is the geometry's ``seq_len``, the length that a model is made for, and not the
    number of keys that a query happens to see: the paper has one constant, also under a causal
    mask, and with it a masked key is as good as none and a sequence's outputs do not depend on
    what follows. So early queries of a causal form, which see few keys, get little.

    A query whose keys are all hidden gets zeros. Nothing keeps the sum of weights near 1 once
    scores are large: the output can grow to N times the values, and in float16 it stops at the
    largest finite number. Tiles are recomputed in the backward pass, so memory is linear in N.
    The state of ``step`` is a cache of keys and values.

    Hazards:
        - Nothing keeps the sum of weights near 1 once scores are large: outputs can grow to N times
          the values.
        - b comes from geometry.seq_len: a model that was trained at another length needs its own
          ``bias``.

    Differences:
        - The paper tries several biases; -log N, the one that it settles on, is the default.

    Args:
        geometry: the shape to build for.
        bias: b; -log N if None.
        chunk_size: queries and keys of a tile.
    """

    def __init__(
        self, geometry: Geometry, bias: float | None = None, chunk_size: int = 256
    ) -> None:
        super().__init__(geometry)
        if bias is None:
            bias = -math.log(geometry.seq_len)
        self.bias = at_least(self.name, "bias", bias, _LEAST_BIAS)
        self.tile = whole(self.name, "chunk_size", chunk_size, 1)

    def weights(self, scores: Tensor) -> Tensor:
        """Eq. 2, in the place of the scores."""
        return scores.add_(self.bias).sigmoid_()

    def slope(self, weights: Tensor) -> Tensor:
        """A sigmoid has w (1 - w), here in the place of the weights."""
        return weights.addcmul_(weights, weights, value=-1.0)

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The N x M weights written out."""
        weights = 1 / (1 + (-q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]) - self.bias).exp())
        if self.geometry.causal:
            weights = weights.tril()
        return weights @ v
