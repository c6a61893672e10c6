"""Softmax attention with a learned sink per head, with or without a window, as in gpt-oss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..base import Geometry
from ..capabilities import RECURRENT
from ..engines.pair import PairCore
from ..registry import register_attention


@register_attention(
    "softmax_sinks",
    title="Softmax with sinks",
    source="OpenAI, 2025, gpt-oss, arXiv:2508.10925",
    family="exact",
    capabilities=RECURRENT,
)
class SoftmaxSinks(PairCore):
    """Softmax over the keys that are seen and one score more, which has no value.

        out_i = sum_j exp(s_ij) v_j / (sum_j exp(s_ij) + exp(sink_h))    s_ij = q_i . k_j / sqrt(D)

    j goes over all tokens up to i, or over the last ``window`` of them, the query's own included.
    ``sinks``, (H,), are learned, one per query head, and are not divided by sqrt(D). A sink
    of 0 is "off by one" softmax, one of minus infinity leaves it out.

    The state of ``step`` is a cache of all tokens, or of a window. A window does not count hidden
    tokens, as if they were removed; a query whose keys are all hidden gets zeros.

    Hazards:
        - The weights of a query sum to less than 1: a constant value is not reproduced, and a head
          can attend to nothing.
        - Scores and sinks are taken relative to the largest of them: a sink far above the scores
          would overflow otherwise.
        - With a window and a ``key_mask`` all N x N pairs are computed.

    Differences:
        - gpt-oss begins training with sinks of standard deviation 0.02; here they begin at 0.
        - gpt-oss has windows of 128 tokens in every other layer: that is ``window=128``. A window
          of `sliding_window` counts the other tokens only: its 127.

    Args:
        geometry: the shape to build for; causal.
        window: tokens that a query sees, itself among them; None for all before it.
    """

    softmax = True

    def __init__(self, geometry: Geometry, window: int | None = None) -> None:
        super().__init__(geometry)
        self.window = self.checked_window(window)
        self.sinks = nn.Parameter(torch.zeros(geometry.num_heads))

    def sink(self) -> Tensor:
        """The learned scores."""
        return self.sinks

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """All N x N weights."""
        scores, n = q @ k.mT / q.shape[-1] ** 0.5, q.shape[2]
        seen = torch.ones(n, n, dtype=torch.bool, device=q.device).tril()
        scores = scores.masked_fill(~seen.triu(1 - (self.window or n)), -torch.inf)
        sinks = self.sinks[:, None, None].expand(*scores.shape[:3], 1)
        return torch.cat((scores, sinks), dim=-1).softmax(dim=-1)[..., :-1] @ v
