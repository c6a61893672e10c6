"""Recurrences that read their state before they write to it, with a decay per key channel.

Both find, for each token, a value u that depends on the state before it, and so on the values of
earlier tokens. As in `delta_rule` the values of a chunk solve a triangular system that knows no
state, for all chunks at once; pairs meet where the chunk is cut, as in `channel_decay`, so that no
decay is divided by.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .channel_decay import within_chunks
from .chunks import DELTA_CHUNK, in_chunks, power_of_two_chunk
from .decay import chunk_by_chunk
from .delta_rule import unit_triangular_inverse


def channel_delta_rule(
    q: Tensor, k: Tensor, erase: Tensor, write: Tensor, log_decay: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """The delta rule on a state that has decayed, from ``state`` over the tokens.

        S' = diag(exp(g_t)) S_{t-1}      S_t = S' + k_t (w_t - S'^T e_t)^T      out_t = S_t^T q_t

    Args:
        q: (B, H, N, D).
        k: (B, H, N, D).
        erase: e, (B, H, N, D): beta_t k_t in KDA.
        write: w, (B, H, N, E): beta_t v_t in KDA.
        log_decay: g, (B, H, N, D).
        state: (B, H, D, E).

    Returns:
        The output, (B, H, N, E), and the state after the last token.
    """
    length = q.shape[2]
    size = power_of_two_chunk(length, DELTA_CHUNK)
    inputs = (q, erase, k, write, log_decay.to(q.dtype))
    q, erase, k, write, steps = (in_chunks(x, size, -2) for x in inputs)  # (B, H, n, C, ...)
    readers = torch.stack((q, erase), dim=-2)
    weights, readers, keys, total = within_chunks(readers, k.unsqueeze(-2), steps)
    of_q, of_e = weights.squeeze(-3).unbind(-3)
    q, erase = readers.unbind(-3)
    inverse = unit_triangular_inverse(of_e.tril(-1))
    values, erased = inverse @ write, inverse @ erase
    keys, left = keys.squeeze(-3), total.exp().unsqueeze(-1)
    out, after = chunk_by_chunk(q, of_q, values, keys, left, state, erased)
    return out[:, :, :length], after


def channel_removal_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    removal: Tensor,
    removed: Tensor,
    log_decay: Tensor,
    state: Tensor,
) -> tuple[Tensor, Tensor]:
    """A removal from the state as it was before its decay, from ``state`` over the tokens.

        S_t = diag(exp(g_t)) S_{t-1} - c_t (S_{t-1}^T r_t)^T + k_t v_t^T      out_t = S_t^T q_t

    A removal key reads what the token before it has left: it stands at that token's place, and the
    first one of a chunk meets the chunk's state.

    Args:
        q: (B, H, N, D).
        k: (B, H, N, D).
        v: (B, H, N, E).
        removal: r, (B, H, N, D).
        removed: c, (B, H, N, D).
        log_decay: g, (B, H, N, D).
        state: (B, H, D, E).

    Returns:
        The output, (B, H, N, E), and the state after the last token.
    """
    length = q.shape[2]
    size = power_of_two_chunk(length)
    inputs = (q, k, v, removal, removed, log_decay.to(q.dtype))
    q, k, v, removal, removed, steps = (in_chunks(x, size, -2) for x in inputs)
    before = functional.pad(removal[..., 1:, :], (0, 0, 0, 1))
    readers, keys = torch.stack((q, before), dim=-2), torch.stack((k, removed), dim=-2)
    weights, readers, keys, total = within_chunks(readers, keys, steps)
    q_k, q_c, r_k, r_c = weights.flatten(-4, -3).unbind(-3)
    q, before = readers.unbind(-3)
    later_k, later_c = (functional.pad(x[..., :-1, :], (0, 0, 1, 0)) for x in (r_k, r_c))
    inverse = unit_triangular_inverse(later_c)
    found = inverse @ (later_k @ v)
    seen = inverse @ torch.cat((removal[..., :1, :], before[..., :-1, :]), dim=-2)

    states, values = [], []
    added, taken = (x.mT for x in keys.unbind(-3))
    added, left = added @ v, total.exp().unsqueeze(-1)
    parts = (x.unbind(2) for x in (found, seen, added, taken, left))
    for u, e, more, less, rest in zip(*parts, strict=True):
        states.append(state)
        values.append(u + e @ state)  # S^T r of one chunk, (B, H, C, E)
        state = rest * state + more - less @ values[-1]

    out = q_k @ v - q_c @ torch.stack(values, dim=2) + q @ torch.stack(states, dim=2)
    return out.flatten(2, 3)[:, :, :length], state
