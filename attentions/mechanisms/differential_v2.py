"""Differential attention, version 2: a gate per token and head takes the place of lambda."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..base import CallShape, Geometry
from ..capabilities import Capabilities, Gate
from ..engines.pair import Attend, PairCore
from ..precision import widen
from ..registry import register_attention


@register_attention(
    "differential_v2",
    title="Differential attention V2",
    source="Ye et al., 2026, microsoft/unilm, Diff-Transformer-V2",
    family="exact",
    capabilities=Capabilities(
        causal=True,
        cross=True,
        recurrent=True,
        masks=frozenset({"padding", "dense"}),
        gates={
            "q_minus": Gate("bhnd", query=True),
            "gate": Gate("bhn", low=0, high=1, query=True),
        },
    ),
)
class DifferentialV2(PairCore):
    """Softmax attention, minus a gated share of what a second query finds among the same keys.

        out = softmax(q k^T / sqrt(D)) v - gate * softmax(q_minus k^T / sqrt(D)) v

    ``q_minus``, (B, H, N, D), is the second query and ``gate``, (B, H, N), is between 0 and 1: in
    the authors' layer a sigmoid of the tokens. Without them the gate is learned, one per head,
    sigmoid(gate_logit), starting at 1/2, and the second query is zero: it subtracts the mean.

    A query whose keys are all hidden gets zeros. The state of ``step`` is a cache.

    Hazards:
        - Without masks, gradients for scores beyond 2^16 lose digits, as those of `softmax` do.
        - Weights may be negative, and sum to 1 - gate: a constant value is not reproduced.

    Differences:
        - The authors have twice as many query heads, even ones plus and odd ones minus, on the same
          heads of keys; here the minus ones are an input of their own.
        - There is a repository and no paper. Against version 1: no norm, no lambda_init, and whole
          heads instead of half ones.

    Args:
        geometry: the shape to build for.
    """

    softmax = True
    fused = True

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry)
        self.gate_logit = nn.Parameter(torch.zeros(geometry.num_heads))

    def learned_gates(self, k: Tensor) -> dict[str, Tensor]:
        """One share per head, and second queries of zeros."""
        nothing = self.gate_logit.new_zeros(self.geometry.num_heads, self.geometry.head_dim)
        return {"q_minus": widen(nothing), "gate": widen(self.gate_logit).sigmoid()}

    def mix(self, attend: Attend, q: Tensor, k: Tensor, v: Tensor, *gates: Tensor) -> Tensor:
        """The difference of what both queries find."""
        q_minus, gate = gates
        q_minus = q_minus.to(q.dtype).expand_as(q)
        return attend(q, k, v) - gate.to(q.dtype).unsqueeze(-1) * attend(q_minus, k, v)

    def reference(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        q_minus: Tensor | None = None,
        gate: Tensor | None = None,
    ) -> Tensor:
        """All N x M weights of both queries."""
        q_minus = torch.zeros_like(q) if q_minus is None else q_minus
        gate = self.gate_logit.sigmoid()[:, None] if gate is None else gate
        found = []
        for queries in (q, q_minus):
            scores = queries @ k.mT / q.shape[-1] ** 0.5
            if self.geometry.causal:
                later = torch.ones_like(scores).triu(1) > 0
                scores = scores.masked_fill(later, -torch.inf)
            found.append(scores.softmax(dim=-1) @ v)
        out: Tensor = found[0] - gate[..., None] * found[1]
        return out

    def pair_width(self, shape: CallShape) -> int:
        """A score of each query, and the mix of a value by each."""
        return 2 * (shape.head_dim + shape.value_dim)

    def fused_width(self, shape: CallShape) -> int:
        """That of each query."""
        return 2 * super().fused_width(shape)
