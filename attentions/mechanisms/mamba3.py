"""Mamba-3, with one input and one output per step: a trapezoid rule, and states that turn."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..base import CallShape, Geometry
from ..capabilities import Capabilities, Gate
from ..checks import at_most, whole
from ..engines.state import StateCore
from ..maths.gates import HEAD_RATES, STEPS, spread
from ..maths.trapezoid import reference_trapezoid, trapezoid_attention, turned
from ..precision import wide_dtype, widen
from ..registry import register_attention

_TURN = 2 * math.pi


class Mamba3State(NamedTuple):
    """A sum of keys and values, the last turned key and value, and the angle so far."""

    context: Tensor
    key: Tensor
    value: Tensor
    angle: Tensor


@register_attention(
    "mamba3",
    title="Mamba-3 (SISO)",
    source="Lahoti et al., 2026, arXiv:2603.15569",
    family="recurrent",
    capabilities=Capabilities(
        bidirectional=False,
        causal=True,
        recurrent=True,
        masks=frozenset({"padding"}),
        gates={
            "log_decay": Gate("bhn", high=0),
            "step": Gate("bhn", low=0),
            "trapezoid": Gate("bhn", low=0, high=1),
            "angle": Gate("bhna", low=-math.pi, high=math.pi),
        },
        position_free=False,
    ),
)
class Mamba3(StateCore):
    """`mamba2_ssd` by a trapezoid rule, with queries and keys that turn as tokens go by.

        c_t = R_t (q_t + q_bias)        b_t = R_t (k_t + k_bias)
        S_t = exp(g_t) (S_{t-1} + (1 - tau_t) step_t b_{t-1} v_{t-1}^T) + tau_t step_t b_t v_t^T
        out_t = S_t^T c_t + skip v_t

    R_t turns pairs of adjacent channels by the sum of step_s angle_s up to t, the other channels
    not at all. ``log_decay``, ``step`` and ``trapezoid``, (B, H, N), are g, step and tau, and
    ``angle`` is (B, H, N, A). Without them each head has values that are learned: -exp(log_rate),
    exp(log_step), sigmoid(trapezoid_logit) and pi tanh(angle_logit), from Mamba-2's ranges, 1/2 and
    0. The biases, (H, D), and the skip, (H,), are learned, from 1. With tau = 1, no angles, biases
    or skip this is `mamba2_ssd` on values v step.

    Hidden tokens neither write to the state nor decay or turn it, and the one after them has the
    last kept one before it: with a ``key_mask`` tokens are taken one by one. A query whose keys are
    all hidden gets zeros.

    Hazards:
        - A sum of angles loses digits: it is kept within a turn, and summed in float64.
        - There is no scale and no normaliser: outputs grow with steps and with the norms.

    Differences:
        - The authors' layer computes g = A step; here they are two inputs. Their norms of keys and
          queries, gate and projections are not in this core.
        - The form of rank 4 (MIMO) is not here.

    Args:
        geometry: the shape to build for; causal.
        num_angles: A, pairs of channels that turn; head_dim / 4, half of them, if None.
    """

    skips_hidden = True

    def __init__(self, geometry: Geometry, num_angles: int | None = None) -> None:
        super().__init__(geometry)
        heads, width = geometry.num_heads, geometry.head_dim
        angles = max(width // 4, min(1, width // 2)) if num_angles is None else num_angles
        self.gate_axes = {"a": whole(self.name, "num_angles", angles, 0)}
        at_most(self.name, "num_angles", angles, width // 2, because="half of head_dim")
        self.q_bias, self.k_bias = (nn.Parameter(torch.ones(heads, width)) for _ in range(2))
        self.skip = nn.Parameter(torch.ones(heads))
        self.log_rate = nn.Parameter(spread(HEAD_RATES, heads).log())
        self.log_step = nn.Parameter(spread(STEPS, heads).log())
        self.trapezoid_logit = nn.Parameter(torch.zeros(heads))
        self.angle_logit = nn.Parameter(torch.zeros(heads, angles))

    def learned_gates(self, k: Tensor) -> dict[str, Tensor]:
        """One of each per head."""
        return {
            "log_decay": -widen(self.log_rate).exp(),
            "step": widen(self.log_step).exp(),
            "trapezoid": widen(self.trapezoid_logit).sigmoid(),
            "angle": math.pi * widen(self.angle_logit).tanh(),
        }

    def head_weights(self) -> tuple[Tensor, ...]:
        """Biases, (H, D), and skip, (H,)."""
        return self.q_bias, self.k_bias, self.skip

    def init_state(
        self, batch_size: int, *, dtype: torch.dtype, device: torch.device
    ) -> Mamba3State:
        """Zeros; float32 for half inputs."""
        g = self.geometry
        d, e, a = g.head_dim, g.value_dim, self.gate_axes["a"]
        wide, sizes = wide_dtype(dtype), ((d, e), (1, d), (1, e), (1, a))
        heads = (batch_size, g.num_heads)
        return Mamba3State(*(torch.zeros(*heads, *s, dtype=wide, device=device) for s in sizes))

    def update(self, state: Mamba3State, k: Tensor, v: Tensor, *gates: Tensor) -> Mamba3State:
        """The last token's share at the start of the step, and this one's at its end."""
        g, step, tau, angle, _, bias, _ = gates
        angle = (state.angle + step * angle) % _TURN
        key, early = turned(k + bias, angle), (1 - tau) * step * state.key
        context = g.exp() * (state.context + early.mT @ state.value) + (tau * step * key).mT @ v
        return Mamba3State(context, key, v, angle)

    def read(self, q: Tensor, state: Mamba3State, *gates: Tensor) -> Tensor:
        """What the turned query finds, and the last value."""
        bias, _, skip = gates[-3:]
        return turned(q + bias, state.angle) @ state.context + skip * state.value

    def chunks(self, q: Tensor, k: Tensor, v: Tensor, *others: Any) -> tuple[Tensor, Mamba3State]:
        """The same, chunk by chunk."""
        c, b, (g, early, own), angle, skip = self._turned(q, k, *others)
        state = others[-1]
        first = early[..., :1, None] * state.key
        out, context = trapezoid_attention(
            c, b, v, g, early, own, state.context + first.mT @ state.value
        )
        last = b[:, :, -1:], v[:, :, -1:], angle[:, :, -1:]
        return out + skip.unsqueeze(-1) * v, Mamba3State(context, *last)

    def _turned(self, q: Tensor, k: Tensor, *others: Any) -> tuple[Any, ...]:
        """Queries and keys with their biases, turned, and what weighs a token."""
        g, step, tau, angle, q_bias, k_bias, skip, state = others
        g, step, tau = (x.to(q.dtype).expand(len(q), -1, q.shape[2]) for x in (g, step, tau))
        turns = (step.unsqueeze(-1) * angle).double().cumsum(dim=2)
        angle = ((state.angle + turns) % _TURN).to(q.dtype)
        weights = g, (1 - tau) * step, tau * step
        return turned(q + q_bias, angle), turned(k + k_bias, angle), weights, angle, skip

    def reference(self, q: Tensor, k: Tensor, v: Tensor, **gates: Tensor) -> Tensor:
        """The N x N weights of both shares."""
        q, k, v, *others = self._inputs(q, k, v, None, gates)
        empty = self.init_state(len(q), dtype=q.dtype, device=q.device)
        c, b, weights, _, skip = self._turned(q, k, *others, empty)
        return reference_trapezoid(c, b, v, *weights) + skip.unsqueeze(-1) * v

    def flops(self, shape: CallShape) -> int:
        """Two writes of the state and a read, per token."""
        return 6 * shape.num_tokens * shape.head_dim * shape.value_dim
