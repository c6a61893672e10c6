"""Linear attention with one decay per head and token.

    S_t = exp(g_t) S_{t-1} + k_t v_t^T        out_t = S_t^T q_t        g_t <= 0

Written out, query i gives key j <= i the weight exp(g_{j+1} + ... + g_i) q_i . k_j. Tokens are
taken in chunks: pairs within a chunk are written out, earlier chunks come in by the state before
them. Only sums of decays between a key and a later query are exponentiated: exp(-(g_1 + ... + g_j))
alone would overflow.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .chunks import CHUNK, in_chunks


def chunk_decays(
    log_decay: Tensor, length: int, size: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Share left of earlier contributions over the tokens of a chunk.

    Sums are float64: after a token that erases the state, differences of float32 sums have lost
    the digits of what little the following ones forget.

    Args:
        log_decay: (B, H, N); N may be 1 for a decay that never changes.
        length: N.
        size: C, tokens of a chunk.
        dtype: of the results.

    Returns:
        From the chunk's start to each token, exp(g_1 + ... + g_i), (B, H, n, C, 1); from each token
        to its end, exp(g_{j+1} + ... + g_C), of the same shape; and from token j to token i,
        exp(g_{j+1} + ... + g_i), zero for a later j, (B, H, n, C, C) or for a decay that never
        changes (B, H, 1, C, C).
    """
    steps = in_chunks(log_decay.expand(-1, -1, length), size, -1)  # (B, H, n, C)
    total = steps.double().cumsum(dim=-1)
    from_start = total.exp().to(dtype).unsqueeze(-1)
    to_end = (total[..., -1:] - total).exp().to(dtype).unsqueeze(-1)
    if log_decay.shape[-1] != length:
        total = total[:, :, :1]
    between = (total.unsqueeze(-1) - total.unsqueeze(-2)).to(dtype)
    # Clamped first: what a later key would weigh may be infinite, and its gradient not a number.
    # Below exp(-87) float32 has denormals and zeros, whose exp takes 5 to 36 times as long.
    return from_start, to_end, between.clamp(-87, 0).exp().tril()


def states_before(decay: Tensor, updates: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The state before each chunk and the one after the last, by pairs of neighbours.

    Two neighbouring chunks are one chunk whose decay is the product of theirs, so a sequence of
    them is solved by solving one half as long: all in parallel, in 2 n steps' work.

    Args:
        decay: what a chunk leaves of the state, (B, H, n, D, 1); B and D may be 1.
        updates: what a chunk adds to it, (B, H, n, D, E).
        state: before the first chunk, (B, H, D, E).
    """
    num_chunks = updates.shape[2]
    if num_chunks == 1:
        after = torch.addcmul(updates[:, :, 0], decay[:, :, 0], state)
        return state.unsqueeze(2), after
    if num_chunks % 2:
        before, last = states_before(decay[:, :, :-1], updates[:, :, :-1], state)
        after = torch.addcmul(updates[:, :, -1], decay[:, :, -1], last)
        return torch.cat((before, last.unsqueeze(2)), dim=2), after
    decay_1, decay_2 = decay[:, :, ::2], decay[:, :, 1::2]
    updates_1, updates_2 = updates[:, :, ::2], updates[:, :, 1::2]
    pairs = torch.addcmul(updates_2, decay_2, updates_1)
    before, after = states_before(decay_1 * decay_2, pairs, state)
    between = torch.addcmul(updates_1, decay_1, before)
    return torch.stack((before, between), dim=3).flatten(2, 3), after


def decayed_attention(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Query i sees ``state`` and then the keys 0..i, through the decays between.

    Args:
        q: (B, H, N, D).
        k: (B, H, N, D).
        v: (B, H, N, E).
        log_decay: (B, H, N); B may be 1, and N may be 1 for a decay that never changes.
        state: (B, H, D, E).

    Returns:
        The output, (B, H, N, E), and the state after the last token.
    """
    length = q.shape[2]
    size = min(CHUNK, length)
    q, k, v = (in_chunks(x, size, -2) for x in (q, k, v))  # (B, H, n, C, ...)
    from_start, to_end, between = chunk_decays(log_decay, length, size, q.dtype)
    updates = (k * to_end).mT @ v  # (B, H, n, D, E)
    before, after = states_before(from_start[..., -1:, :], updates, state)
    weights = (q @ k.mT) * between  # (B, H, n, C, C)
    out = weights @ v + (q * from_start) @ before
    return out.flatten(2, 3)[:, :, :length], after


def chunk_by_chunk(
    q: Tensor,
    weights: Tensor,
    v: Tensor,
    k: Tensor,
    left: Tensor,
    state: Tensor,
    erased: Tensor,
) -> tuple[Tensor, Tensor]:
    """Outputs of all chunks of a delta rule, each finished while its state is at hand.

    Args:
        q: queries as a chunk's state sees them, (B, H, n, C, D).
        weights: of the pairs of a chunk, (B, H, n, C, C).
        v: (B, H, n, C, E).
        k: keys as a chunk's end sees them, (B, H, n, C, D).
        left: what a chunk leaves of the state, (B, H, n, D or 1, 1); B may be 1.
        state: before the first chunk, (B, H, D, E).
        erased: keys of what the chunk's state takes from the values, (B, H, n, C, D).

    Returns:
        The output, (B, H, n C, E), and the state after the last chunk.
    """
    sizes = q.shape[:2]
    inputs = (q, weights, v, k.mT, left, erased)
    parts = (x.expand(*sizes, *x.shape[2:]).flatten(0, 1).unbind(1) for x in inputs)
    state, outputs = state.flatten(0, 1), []
    for reader, weight, new, key, rest, erase in zip(*parts, strict=True):
        new = torch.baddbmm(new, erase, state, alpha=-1)
        outputs.append(torch.baddbmm(torch.bmm(reader, state), weight, new))
        state = torch.baddbmm(rest * state, key, new)
    return torch.cat(outputs, dim=1).unflatten(0, sizes), state.unflatten(0, sizes)
