"""Mamba-3, with one input and one output per step: a trapezoid rule, and states that turn.

    S_t = exp(g_t) (S_{t-1} + e_t k_{t-1} v_{t-1}^T) + o_t k_t v_t^T        out_t = S_t^T q_t

That is the trapezoid rule for an equation in continuous time, as Mamba-3 has it, whose queries and
keys turn besides. Query i gives key j < i the weight exp(g_{j+1} + ... + g_i) q_i . k_j
(o_j + e_{j+1}), and its own key o_i q_i . k_i: one sum over pairs, as in `decay`, with another
diagonal.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..base import CallShape, Geometry
from ..capabilities import RECURRENT, Gate
from ..checks import at_most, whole
from ..engines.state import StateCore
from ..maths.recurrences.chunks import CHUNK, in_chunks
from ..maths.recurrences.decay import chunk_decays, states_before
from ..maths.recurrences.gates import HEAD_RATES, STEPS, spread
from ..precision import widen
from ..registry import register_attention


@register_attention(
    "mamba3",
    title="Mamba-3 (SISO)",
    source="Lahoti et al., 2026, arXiv:2603.15569",
    family="recurrent",
    capabilities=replace(
        RECURRENT,
        gates={
            "log_decay": Gate("bhn", high=0, activation="rate"),
            "step": Gate("bhn", low=0, activation="step_size"),
            "trapezoid": Gate("bhn", low=0, high=1),
            "angle": Gate("bhna", low=-3.141592653589793, high=3.141592653589793),
        },
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
        angles = min(-(-width // 4), width // 2) if num_angles is None else num_angles
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

    def init_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> Any:
        """Zeros; float32 for half inputs."""
        context = super().init_state(batch_size, dtype=dtype, device=device)
        widths = (*context.shape[2:], self.gate_axes["a"])
        return TurnedState(context, *(context.new_zeros(*context.shape[:2], 1, w) for w in widths))

    def update(self, state: TurnedState, k: Tensor, v: Tensor, *gates: Tensor) -> TurnedState:
        """The last token's share at the start of the step, and this one's at its end."""
        g, step, tau, turns, _, bias, _ = gates
        angle = (state.angle + step * turns) % TURN
        key, early = turned(k + bias, angle), (1 - tau) * step * state.key
        context = g.exp() * (state.context + early.mT @ state.value) + (tau * step * key).mT @ v
        return TurnedState(context, key, v.clone(), angle)  # a view would be the caller's memory

    def read(self, q: Tensor, state: TurnedState, *gates: Tensor) -> Tensor:
        """The read of a turned query, and the last value."""
        return turned(q + gates[-3], state.angle) @ state.context + gates[-1] * state.value

    def chunks(self, q: Tensor, k: Tensor, v: Tensor, *others: Any) -> tuple[Tensor, TurnedState]:
        """The same, chunk by chunk."""
        g, step, tau, turns, q_bias, k_bias, skip, state = others
        out, state = turned_attention(q + q_bias, k + k_bias, v, g, step, tau, turns, state)
        return out + skip.unsqueeze(-1) * v, state

    def reference(self, q: Tensor, k: Tensor, v: Tensor, **gates: Tensor) -> Tensor:
        """The N x N weights of both shares."""
        q, k, v, *others, q_bias, k_bias, skip = self._inputs(q, k, v, None, gates)
        out = reference_turned_attention(q + q_bias, k + k_bias, v, *others)
        return out + skip.unsqueeze(-1) * v

    def flops(self, shape: CallShape) -> int:
        """Two writes of the state and a read, per token."""
        return 6 * shape.num_tokens * shape.head_dim * shape.value_dim


TURN = 2 * math.pi


class TurnedState(NamedTuple):
    """Sums over the tokens so far, and the last of them.

    Attributes:
        context: the sum of keys and values, (B, H, D, E).
        key: the last key, turned, (B, H, 1, D).
        value: the last value, (B, H, 1, E).
        angle: the sum of angles within a turn, (B, H, 1, A).
    """

    context: Tensor
    key: Tensor
    value: Tensor
    angle: Tensor


def turned(x: Tensor, angle: Tensor) -> Tensor:
    """Turn the first pairs of adjacent channels, one by each angle: (..., D), (..., A)."""
    pairs, rest = x[..., : 2 * angle.shape[-1]], x[..., 2 * angle.shape[-1] :]
    cosine, sine = angle.cos(), angle.sin()
    even, odd = pairs[..., ::2], pairs[..., 1::2]
    pairs = torch.stack((even * cosine - odd * sine, even * sine + odd * cosine), dim=-1)
    return torch.cat((pairs.flatten(-2), rest), dim=-1)


def turned_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    step: Tensor,
    trapezoid: Tensor,
    angle: Tensor,
    state: TurnedState,
) -> tuple[Tensor, TurnedState]:
    """Query i sees ``state`` and then the keys 0..i, chunk by chunk, all turned as they come.

    A token's o is step trapezoid, and its e is step (1 - trapezoid).

    Args:
        q: (B, H, N, D).
        k: (B, H, N, D).
        v: (B, H, N, E).
        log_decay: g, (B, H, N); B may be 1, and N may be 1 if it never changes.
        step: as log_decay.
        trapezoid: as log_decay.
        angle: by which a step of 1 turns, (B, H, N, A); B may be 1.
        state: before the first token.

    Returns:
        The output, (B, H, N, E), and the state after the last token.
    """
    length = q.shape[2]
    size = min(CHUNK, length)
    gates = (log_decay, step, trapezoid)
    log_decay, step, trapezoid = (x.to(q.dtype).expand(len(q), -1, length) for x in gates)
    angles = (step.unsqueeze(-1) * angle).double().cumsum(dim=2)
    angles = ((state.angle + angles) % TURN).to(q.dtype)
    q, k = turned(q, angles), turned(k, angles)
    own, early = trapezoid * step, (1 - trapezoid) * step
    start = state.context + (early[..., :1, None] * state.key).mT @ state.value
    last = (x[:, :, -1:].clone() for x in (k, v, angles))  # a view would keep all tokens

    full = own + functional.pad(early[..., 1:], (0, 1))
    from_start, to_end, between = chunk_decays(log_decay, length, size, q.dtype)
    q, k, v = (in_chunks(x, size) for x in (q, k, v))  # (B, H, n, C, ...)
    own, full = (in_chunks(x, size, -1) for x in (own, full))
    updates = (k * to_end * full.unsqueeze(-1)).mT @ v
    before, after = states_before(from_start[..., -1:, :], updates, start)
    shares = between.tril(-1) * full.unsqueeze(-2) + torch.diag_embed(own)
    out = (q @ k.mT * shares) @ v + (q * from_start) @ before
    return out.flatten(2, 3)[:, :, :length], TurnedState(after, *last)


def reference_turned_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    step: Tensor,
    trapezoid: Tensor,
    angle: Tensor,
) -> Tensor:
    """`turned_attention` from an empty state, by N x N matrices of both terms apart.

    Channels are turned as complex numbers.
    """
    length = q.shape[2]
    log_decay, step, trapezoid = (
        x.to(q.dtype).expand(len(q), -1, length) for x in (log_decay, step, trapezoid)
    )
    turns = torch.polar(torch.ones_like(angle), angle * step.unsqueeze(-1)).cumprod(dim=2)
    width, halves = 2 * angle.shape[-1], []
    for x in (q, k):
        pairs = torch.view_as_complex(x[..., :width].unflatten(-1, (-1, 2)).contiguous()) * turns
        halves.append(torch.cat((torch.view_as_real(pairs).flatten(-2), x[..., width:]), dim=-1))
    q, k = halves
    total = log_decay.cumsum(dim=-1)
    decay = (total[..., :, None] - total[..., None, :]).tril().exp().tril()
    now = (q @ k.mT * decay * (trapezoid * step).unsqueeze(-2)) @ v
    k, v = (functional.pad(x[..., :-1, :], (0, 0, 1, 0)) for x in (k, v))
    early = (1 - trapezoid) * step * log_decay.exp()
    out: Tensor = now + (q @ k.mT * decay * early.unsqueeze(-2)) @ v
    return out
