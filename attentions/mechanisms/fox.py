"""Forgetting Transformer: softmax attention whose scores decay between key and query."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..base import Geometry
from ..capabilities import RECURRENT, Gate
from ..engines.pair import PairCore
from ..maths.recurrences.gates import spread
from ..precision import widen
from ..registry import register_attention

_SPANS = (2.0, 1024.0)
"""Tokens after which a head's score has fallen by 1, fastest and slowest head."""


@register_attention(
    "fox",
    title="FoX (forgetting attention)",
    source="Lin et al., 2025, arXiv:2503.02130",
    family="exact",
    capabilities=replace(
        RECURRENT, gates={"log_decay": Gate("bhn", high=0, activation="logsigmoid")}
    ),
)
class Fox(PairCore):
    """Softmax attention with what tokens forget between a key and a query added to the score.

        out_i = sum_{j <= i} softmax_j(q_i . k_j / sqrt(D) + G_i - G_j) v_j

    with G_i = g_1 + ... + g_i. ``log_decay``, (B, H, N), is g; that of a token counts for the keys
    before it and not for its own. Without it each head has one that is learned, -exp(log_rate),
    starting from 1/1024 to 1/2 per token, slow heads first. Queries and keys need no positions.

    The state of ``step`` is a cache of keys, values and sums of g. Hidden tokens forget nothing,
    and a window does not count them, as if they were removed.

    Hazards:
        - Sums of long strong decays lose digits in float32, and differences of them all that
          matters: they are float64 here. A log decay of minus infinity becomes -10,000.
        - With a window and a ``key_mask`` all N x N pairs are computed.

    Differences:
        - The authors' layer computes g from the tokens, log sigmoid(W x + b); its variant that the
          data do not choose has one per head, as the learned one here, over spans to be set.
        - The "Pro" block's shift of keys and values, norms and output gate are not in this core.
        - Blocks of negligible weight are computed; the authors' pruning is an approximation.

    Args:
        geometry: the shape to build for; causal.
        window: tokens that a query sees, itself among them; None for all before it. That of
            `sliding_window` counts the others only.
    """

    softmax = True

    def __init__(self, geometry: Geometry, window: int | None = None) -> None:
        super().__init__(geometry)
        self.window = self.checked_window(window)
        rates = spread((1 / _SPANS[1], 1 / _SPANS[0]), geometry.num_heads)
        self.log_rate = nn.Parameter(rates.log())

    def learned_gates(self, k: Tensor) -> dict[str, Tensor]:
        """One decay per head."""
        return {"log_decay": -widen(self.log_rate).exp()}

    def log_decay(self, *gates: Tensor) -> Tensor:
        """As given: unlike PaTH's it is not divided by sqrt(D)."""
        return gates[0]

    def reference(
        self, q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor | None = None
    ) -> Tensor:
        """All N x N weights."""
        if log_decay is None:
            log_decay = -self.log_rate.exp()[:, None].expand(q.shape[:3])
        n = q.shape[2]
        total = log_decay.cumsum(dim=-1)
        scores = q @ k.mT / q.shape[-1] ** 0.5 + total[..., :, None] - total[..., None, :]
        seen = (
            torch.ones(n, n, dtype=torch.bool, device=q.device).tril().triu(1 - (self.window or n))
        )
        out: Tensor = scores.masked_fill(~seen, -torch.inf).softmax(dim=-1) @ v
        return out
