"""Differential attention: the difference of two softmax maps, which cancels common noise."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..base import CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import at_least, flag, positive
from ..engines.pair import Attend, PairCore
from ..maths.norms import normalise
from ..precision import widen
from ..registry import register_attention

_FIRST_LAYER = 0.2
"""0.8 - 0.6 exp(-0.3 depth) at depth 0."""


@register_attention(
    "differential",
    title="Differential attention",
    source="Ye et al., 2024, arXiv:2410.05258",
    family="exact",
    capabilities=Capabilities(
        causal=True, cross=True, recurrent=True, masks=frozenset({"padding", "dense"})
    ),
)
class Differential(PairCore):
    """Two softmax maps of half the channels each, one subtracted from the other.

        out = (1 - lambda_init) RMSNorm((softmax(q1 k1^T / sqrt(d)) - lambda softmax(q2 k2^T
              / sqrt(d))) v)
        lambda = exp(lambda_q1 . lambda_k1) - exp(lambda_q2 . lambda_k2) + lambda_init

    Eq. 1 to 3. q1 and q2 are the first and the second half of a head's D = 2 d channels. The four
    vectors, (d,), are learned, one set for all heads; so is the norm's weight, (E,), over each
    head's values. In the paper the layer at depth l = 0, 1, ... has lambda_init = 0.8 - 0.6
    exp(-0.3 l).

    A query whose keys are all hidden gets zeros. The state of ``step`` is a cache.

    Hazards:
        - Without masks, gradients for scores beyond 2^16 lose digits, as those of `softmax` do.
        - Where lambda is near 1 and both maps agree, the norm amplifies what rounding leaves.
        - Weights may be negative, and sum to 1 - lambda before the norm.

    Differences:
        - The paper writes GroupNorm over heads; authors' code, as here, has RMSNorm per head.
        - Their layer has half as many heads, twice as wide, as the Transformer that it replaces.
        - They subtract outputs of two kernels or maps, depending on the version: the same.

    Args:
        geometry: the shape to build for; head_dim even.
        lambda_init: see above; 0.2 is that of the first layer.
        norm: whether outputs are normed; (1 - lambda_init) multiplies them in any case.
        eps: of the norm.
    """

    softmax = True
    fused = True

    def __init__(
        self,
        geometry: Geometry,
        lambda_init: float = _FIRST_LAYER,
        norm: bool = True,
        eps: float = 1e-5,
    ) -> None:
        super().__init__(geometry)
        if geometry.head_dim % 2:
            raise ValueError(
                f"{self.name}: head_dim is {geometry.head_dim}; an even number is needed, half of "
                "it for each of two maps."
            )
        self.lambda_init = at_least(self.name, "lambda_init", lambda_init, 0)
        vectors = (nn.Parameter(0.1 * torch.randn(geometry.head_dim // 2)) for _ in range(4))
        self.lambda_q1, self.lambda_k1, self.lambda_q2, self.lambda_k2 = vectors
        has_norm = flag(self.name, "norm", norm)
        eps = positive(self.name, "eps", eps)
        self.norm = nn.RMSNorm(geometry.value_dim, eps=eps) if has_norm else None

    def share(self) -> Tensor:
        """lambda, how much of the second map is subtracted."""
        q1, k1, q2, k2 = map(
            widen, (self.lambda_q1, self.lambda_k1, self.lambda_q2, self.lambda_k2)
        )
        return (q1 * k1).sum().exp() - (q2 * k2).sum().exp() + self.lambda_init

    def mix(self, attend: Attend, q: Tensor, k: Tensor, v: Tensor, *gates: Tensor) -> Tensor:
        """The difference of what both maps find."""
        (q1, q2), (k1, k2) = q.chunk(2, dim=-1), k.chunk(2, dim=-1)
        return attend(q1, k1, v) - self.share().to(q.dtype) * attend(q2, k2, v)

    def finish(self, out: Tensor, *gates: Tensor) -> Tensor:
        """The norm, and the factor that aligns gradients with a Transformer's."""
        return (out if self.norm is None else normalise(out, self.norm)) * (1 - self.lambda_init)

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Both N x M maps written out."""
        maps, half = [], q.shape[-1] // 2
        for part in (slice(half), slice(half, None)):
            scores = q[..., part] @ k[..., part].mT / math.sqrt(half)
            if self.geometry.causal:
                later = torch.ones_like(scores).triu(1) > 0
                scores = scores.masked_fill(later, -torch.inf)
            maps.append(scores.softmax(dim=-1))
        first, second = self.lambda_q1 @ self.lambda_k1, self.lambda_q2 @ self.lambda_k2
        out = (maps[0] - (first.exp() - second.exp() + self.lambda_init) * maps[1]) @ v
        if self.norm is not None:
            size = out.pow(2).mean(dim=-1, keepdim=True) + (self.norm.eps or 0.0)
            out = out / size.sqrt() * self.norm.weight
        result: Tensor = out * (1 - self.lambda_init)
        return result

    def pair_width(self, shape: CallShape) -> int:
        """A score of each map, of half the channels, and the mix of a value by each."""
        return shape.head_dim + 2 * shape.value_dim

    def fused_width(self, shape: CallShape) -> int:
        """That of each map."""
        return 4 * max(shape.head_dim // 2, shape.value_dim)
