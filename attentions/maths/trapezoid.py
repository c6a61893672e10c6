"""Linear attention with a decay, in which a token writes its neighbour before it once more.

    S_t = exp(g_t) (S_{t-1} + e_t k_{t-1} v_{t-1}^T) + o_t k_t v_t^T        out_t = S_t^T q_t

That is the trapezoid rule for an equation in continuous time, as Mamba-3 has it, whose queries and
keys turn besides. Query i gives key j < i the weight exp(g_{j+1} + ... + g_i) q_i . k_j
(o_j + e_{j+1}), and its own key o_i q_i . k_i: one sum over pairs, as in `decay`, with another
diagonal.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from .chunks import CHUNK, in_chunks
from .decay import chunk_decays, states_before

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
