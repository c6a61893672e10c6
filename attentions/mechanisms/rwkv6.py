"""RWKV-6 (Finch): a state that decays by channel, read before a token writes to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..base import Geometry
from ..capabilities import RECURRENT, Gate
from ..checks import positive
from ..engines.state import StateCore
from ..maths.recurrences.gates import HEAD_RATES, spread
from ..maths.recurrences.transition import Transition
from ..precision import widen
from ..registry import register_attention


@register_attention(
    "rwkv6",
    title="RWKV-6",
    source="Peng et al., 2024, Eagle and Finch, arXiv:2404.05892",
    family="recurrent",
    capabilities=replace(
        RECURRENT, gates={"log_decay": Gate("bhnd", high=0, activation="exp", start=(-6, -1))}
    ),
)
class Rwkv6(StateCore):
    """A state whose channels decay, and a bonus for the token itself in place of its decay.

        out_t = S_{t-1}^T r_t + (r_t . (u * k_t)) v_t
        S_t = diag(exp(w_t)) S_{t-1} + k_t v_t^T

    ``log_decay``, (B, H, N, D), is w, the bonus u is learned, and RWKV's r is q. Without decays
    each channel of a head has one that is learned, -exp(log_rate), from 0.001 to 1.6 per token.
    The read comes before the decay of its own step: `gla` has one term more between two tokens.

    Hidden tokens neither write to the state nor decay it. A query whose keys are all hidden gets
    zeros.

    Hazards:
        - Without a scale or a norm outputs grow like sqrt(N) at weak decay; the authors' layer has
          a GroupNorm behind it.

    Differences:
        - Token shift, the projections, GroupNorm and gate are the authors' layer and not in this
          core.
        - A common third-party operator multiplies queries by head_dim^(-1/2) unless told otherwise;
          RWKV has no such factor, as here: ``scale`` puts it in.

    Args:
        geometry: the shape to build for; causal.
        scale: factor of the queries; 1, not head_dim^(-1/2), as RWKV has none.
    """

    reads_first = True

    def __init__(self, geometry: Geometry, scale: float = 1.0) -> None:
        super().__init__(geometry)
        self.scale = positive(self.name, "scale", scale)
        sizes = (geometry.num_heads, geometry.head_dim)
        self.bonus = nn.Parameter(torch.ones(sizes))
        self.log_rate = nn.Parameter(spread(HEAD_RATES, sizes[1]).log().repeat(sizes[0], 1))

    def learned_gates(self, k: Tensor) -> dict[str, Tensor]:
        """One decay per channel."""
        return {"log_decay": -widen(self.log_rate).exp()}

    def head_weights(self) -> tuple[Tensor, ...]:
        """The bonus, (H, D)."""
        return (self.bonus,)

    def transition(self, k: Tensor, v: Tensor, w: Tensor, bonus: Tensor) -> Transition:
        """Decay, and then write."""
        return Transition(k, v, w)

    def one_token(
        self, q: Tensor, k: Tensor, v: Tensor, state: Any, *gates: Tensor
    ) -> tuple[Tensor, Any]:
        """Read, and then decay and write."""
        bonus = gates[-1]
        return q @ state + _own(q, k, v, bonus), self.update(state, k, v, *gates)

    def chunks(
        self, q: Tensor, k: Tensor, v: Tensor, w: Tensor, bonus: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """A query reads where the token before it has written, as in `gla`."""
        later = functional.pad(q[:, :, 1:], (0, 0, 0, 1))
        out, after = self._by_transitions(later, k, v, w, bonus, state)
        out = torch.cat((q[:, :, :1] @ state, out[:, :, :-1]), dim=2)
        return out + _own(q, k, v, bonus), after

    def reference(self, q: Tensor, k: Tensor, v: Tensor, **gates: Tensor) -> Tensor:
        """The N x N weights written out, channel by channel."""
        q, k, v, w, bonus = self._inputs(q, k, v, None, gates)
        weights, total = q.new_zeros(*q.shape[:3], q.shape[2]), w.cumsum(dim=-2)
        for d in range(q.shape[-1]):
            left = (total - w)[..., :, None, d] - total[..., None, :, d]
            pairs = q[..., :, None, d] * k[..., None, :, d]
            weights = weights + (pairs * left.tril(-1).exp()).tril(-1)
            weights = weights + torch.diag_embed(q[..., d] * bonus[..., d] * k[..., d])
        return weights @ v


def _own(q: Tensor, k: Tensor, v: Tensor, bonus: Tensor) -> Tensor:
    """The part of the output that is a token's own."""
    return (q * bonus * k).sum(dim=-1, keepdim=True) * v
