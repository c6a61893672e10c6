"""DeltaFormer: softmax attention to values from which what earlier tokens say was taken off."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..base import CallShape, Geometry
from ..capabilities import RECURRENT, Gate
from ..engines.past import Chunk, PastCore, inverse_width, unit_inverse
from ..precision import widen
from ..registry import register_attention


@register_attention(
    "deltaformer",
    title="DeltaFormer",
    source="Xu et al., 2025, arXiv:2505.19488",
    family="exact",
    capabilities=replace(RECURRENT, gates={"beta": Gate("bhn")}, queries_write=True),
)
class Deltaformer(PastCore):
    """The delta rule with softmax weights: a token stores what is new, and reads what is stored.

        u_i = v_i - beta_i sum_{j < i} softmax_{j < i}(q_i . k_j / sqrt(D)) u_j
        out_i = sum_{j <= i} softmax_j(q_i . k_j / sqrt(D)) u_j

    Eq. 6 to 8. ``beta``, (B, H, N), has no range; without it each head has one that is learned,
    starting at 1/2. 0 is softmax attention. The first token sees none before it: u_0 = v_0. The
    state of ``step`` is a cache of k and u.

    Hazards:
        - A beta above 1 amplifies what is stored, token after token.
        - What a token stores depends on its query, so hidden tokens must store nothing.
        - The backward pass keeps N^2 numbers per head.

    Differences:
        - The authors' layer projects beta from the tokens without a sigmoid, and rotates q and k.

    Args:
        geometry: the shape to build for; causal.
    """

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry)
        self.strength = nn.Parameter(torch.full((geometry.num_heads,), 0.5))

    def learned_gates(self, k: Tensor) -> dict[str, Tensor]:
        """One share per head."""
        return {"beta": widen(self.strength)}

    def mix_chunk(self, chunk: Chunk, *gates: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A triangular system for what is new of the chunk's values, and softmax over all."""
        past, beta = chunk.past_k.shape[2], gates[0].unsqueeze(-1)
        k = torch.cat((chunk.past_k, chunk.k), dim=2)
        scores = chunk.q @ k.mT
        strict = beta * chunk.weights(scores, strict=True)
        new = chunk.v - strict[..., :past] @ chunk.past_v if past else chunk.v
        u = torch.cat((chunk.past_v, unit_inverse(strict[..., past:]) @ new), dim=2)
        return chunk.weights(scores) @ u, k, u

    def reference(self, q: Tensor, k: Tensor, v: Tensor, *, beta: Tensor | None = None) -> Tensor:
        """Token by token."""
        if beta is None:
            beta = self.strength[:, None].expand(q.shape[:3])
        stored, outputs = v[:, :, :0], []
        for i in range(q.shape[2]):
            scores = (q[:, :, i, None] * k[:, :, : i + 1]).sum(dim=-1) / q.shape[-1] ** 0.5
            known = (scores[..., :i].softmax(dim=-1)[..., None] * stored).sum(dim=2)
            new = v[:, :, i] - beta[:, :, i, None] * known
            stored = torch.cat((stored, new.unsqueeze(2)), dim=2)
            outputs.append((scores.softmax(dim=-1)[..., None] * stored).sum(dim=2))
        return torch.stack(outputs, dim=2)

    def pair_width(self, shape: CallShape) -> int:
        """A score, and the mix of what is stored by both softmaxes."""
        return shape.head_dim + 2 * shape.value_dim

    def chunk_width(self, tokens: int, past: int, shape: CallShape) -> int:
        """Multiply-adds of a chunk."""
        pairs = tokens * (past + tokens)
        return pairs * self.pair_width(shape) + inverse_width(tokens)
