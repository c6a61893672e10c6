"""PaTH attention: every token between a key and a query turns what they have in common."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..base import CallShape, Geometry
from ..capabilities import RECURRENT, Gate
from ..checks import flag
from ..engines.past import Chunk, PastCore, inverse_width, unit_inverse
from ..maths.recurrences.delta_rule import unit_length
from ..maths.recurrences.gates import HEAD_RATES, spread
from ..precision import widen
from ..registry import register_attention


@register_attention(
    "path",
    title="PaTH attention",
    source="Yang et al., 2025, arXiv:2505.16381",
    family="exact",
    capabilities=replace(
        RECURRENT,
        gates={
            "transition_key": Gate("bhnd", unit=True),
            "beta": Gate("bhn", low=0, high=2),
            "log_decay": Gate("bhn", high=0, activation="logsigmoid"),
        },
    ),
)
class Path(PastCore):
    """Softmax attention with a product of Householder-like maps between a key and a query.

        s_ij = k_j^T H_{j+1} ... H_i q_i,    H_t = I - beta_t w_t w_t^T
        out_i = sum_{j <= i} softmax_j((s_ij + G_i - G_j) / sqrt(D)) v_j

    Eq. 2 and 5. ``transition_key``, (B, H, N, D), is w, of unit length, and ``beta``, (B, H, N), is
    between 0 and 2. With ``forget_gate`` there is ``log_decay``, (B, H, N), whose sums are G, as in
    `fox`, but divided by sqrt(D). Without them w is the key's direction, and each head has a beta
    and a decay that are learned. A beta of 0 is softmax attention.

    The state of ``step`` is a cache whose keys are all rewritten by each token.

    Hazards:
        - Products of H_t explode where w_t is longer than 1: it is taken as it is given.
        - The backward pass keeps N^2 numbers per head.

    Differences:
        - The authors' layer computes w from the tokens, by a convolution and maps of low rank.
        - Their sums of decays are float32, those here float64.

    Args:
        geometry: the shape to build for; causal.
        forget_gate: whether scores decay.
    """

    def __init__(self, geometry: Geometry, forget_gate: bool = False) -> None:
        super().__init__(geometry)
        decays = flag(self.name, "forget_gate", forget_gate)
        rates = spread(HEAD_RATES, geometry.num_heads)
        self.beta_logit = nn.Parameter(torch.zeros(geometry.num_heads))
        self.log_rate = nn.Parameter(rates.log()) if decays else None
        if not decays:
            del self.gates["log_decay"]

    def learned_gates(self, k: Tensor) -> dict[str, Tensor]:
        """The keys' own directions, and a beta and a decay per head."""
        decays = {} if self.log_rate is None else {"log_decay": -widen(self.log_rate).exp()}
        beta = 2 * widen(self.beta_logit).sigmoid()
        return {"transition_key": unit_length(widen(k)), "beta": beta} | decays

    def log_decay(self, *gates: Tensor) -> Tensor | None:
        """Divided by sqrt(D), as the scores are."""
        return None if self.log_rate is None else gates[2] * self.geometry.head_dim**-0.5

    def mix_chunk(self, chunk: Chunk, *gates: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The UT transform: products of a chunk's maps are I - W^T T W for a triangular T."""
        q, k, w, beta = chunk.q, chunk.k, gates[0], gates[1].unsqueeze(-1)
        turns = unit_inverse((beta * (w @ w.mT)).tril(-1)) * beta.mT  # T
        meets = (q @ w.mT).tril()
        hits = turns @ (w @ k.mT).tril(-1)
        scores = q @ k.mT - meets @ hits
        k = k - hits.mT @ w
        if chunk.past_k.shape[2]:
            turned = q - meets @ (turns @ w)
            scores = torch.cat((turned @ chunk.past_k.mT, scores), dim=-1)
            past = chunk.past_k - (chunk.past_k @ w.mT) @ (turns.mT @ w)
            k = torch.cat((past, k), dim=2)
        v = torch.cat((chunk.past_v, chunk.v), dim=2)
        return chunk.weights(scores) @ v, k, v

    def reference(self, q: Tensor, k: Tensor, v: Tensor, **gates: Tensor) -> Tensor:
        """Key by key from the last one: all later queries meet it, and turn by its map."""
        w, beta, *decay = self._gates(q, k, None, gates)
        beta = beta.expand(q.shape[:3])
        log_decay = decay[0].expand(q.shape[:3]) if decay else torch.zeros_like(beta)
        moved, columns = q[:, :, -1:], []
        for j in range(q.shape[2] - 1, -1, -1):
            hidden = q.new_full((*q.shape[:2], j), -torch.inf)
            forgotten = log_decay[:, :, j:].cumsum(dim=-1) - log_decay[:, :, j, None]
            scores = (moved * k[:, :, j, None]).sum(dim=-1) + forgotten
            columns.append(torch.cat((hidden, scores), dim=-1))
            part = (moved * w[:, :, j, None]).sum(dim=-1) * beta[:, :, j, None]
            moved = moved - part[..., None] * w[:, :, j, None]
            moved = torch.cat((q[:, :, j - 1 : j], moved), dim=2)
        scores = torch.stack(columns[::-1], dim=-1) / q.shape[-1] ** 0.5
        out: Tensor = scores.softmax(dim=-1) @ v
        return out

    def pair_width(self, shape: CallShape) -> int:
        """A score, its value's share, and the key's turn by the query's map."""
        return 3 * shape.head_dim + shape.value_dim

    def chunk_width(self, tokens: int, past: int, shape: CallShape) -> int:
        """Multiply-adds of a chunk."""
        d, e = shape.head_dim, shape.value_dim
        own = tokens**2 * (5 * d + e) + 2 * tokens**3 + inverse_width(tokens)
        return own + (3 * tokens**2 * d + tokens * past * (3 * d + e) if past else 0)
