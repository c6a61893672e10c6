"""Gated attention: a sigmoid gate on the output of softmax attention, before heads are merged."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..base import Geometry
from ..capabilities import Capabilities, Gate
from ..checks import flag
from ..engines.pair import PairCore
from ..precision import widen
from ..registry import register_attention


@register_attention(
    "gated_attention",
    title="Gated attention",
    source="Qiu et al., 2025, arXiv:2505.06708",
    family="exact",
    capabilities=Capabilities(
        causal=True,
        cross=True,
        recurrent=True,
        masks=frozenset({"padding", "dense"}),
        gates={"gate": Gate("bhne", low=0, high=1, query=True)},
    ),
)
class GatedAttention(PairCore):
    """out = gate * softmax(q k^T / sqrt(D)) v.

    ``gate``, (B, H, N, E), or (B, H, N) if ``headwise``, is between 0 and 1: in the authors' layer
    a sigmoid of what the query's own projection gives besides. Without it every channel of a head
    has one that is learned, sigmoid(gate_logit), starting at 1/2, where theirs starts on average.

    A query whose keys are all hidden gets zeros. The state of ``step`` is a cache.

    Hazards:
        - Without masks, gradients for scores beyond 2^16 lose digits, as those of `softmax` do.
        - Saturated gates let no gradient through.

    Differences:
        - None known beside the projection of the gate, which is the layer's.

    Args:
        geometry: the shape to build for.
        headwise: whether a head has one gate per token instead of one per channel.
    """

    softmax = True
    fused = True

    def __init__(self, geometry: Geometry, headwise: bool = False) -> None:
        super().__init__(geometry)
        g = geometry
        self.headwise = flag(self.name, "headwise", headwise)
        if self.headwise:
            self.gates["gate"] = Gate("bhn", low=0, high=1, query=True)
        sizes = (g.num_heads,) if self.headwise else (g.num_heads, g.value_dim)
        self.gate_logit = nn.Parameter(torch.zeros(sizes))

    def learned_gates(self, k: Tensor) -> dict[str, Tensor]:
        """One share per head, or per channel."""
        return {"gate": widen(self.gate_logit).sigmoid()}

    def finish(self, out: Tensor, *gates: Tensor) -> Tensor:
        """Each token's share of what was found."""
        (gate,) = gates
        return out * (gate.unsqueeze(-1) if self.headwise else gate)

    def reference(self, q: Tensor, k: Tensor, v: Tensor, *, gate: Tensor | None = None) -> Tensor:
        """All N x M weights."""
        gate = self.gate_logit.sigmoid().unflatten(0, (-1, 1)) if gate is None else gate
        scores = q @ k.mT / q.shape[-1] ** 0.5
        if self.geometry.causal:
            seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
            scores = scores.masked_fill(~seen, -torch.inf)
        out: Tensor = (gate.unsqueeze(-1) if self.headwise else gate) * (scores.softmax(dim=-1) @ v)
        return out
