"""Linear attention with a decay per head, token and key channel.

    S_t = diag(exp(g_t)) S_{t-1} + k_t v_t^T        out_t = S_t^T q_t        g_t <= 0

Written out, query i gives key j <= i the weight sum_d exp(g_{j+1} + ... + g_i)_d q_id k_jd. There
is no matrix of decays to multiply scores with, as there is for one decay per head. But where a
chunk is cut in two, a later query and an earlier key can both be carried to the cut, by factors
of at most 1 each, and meet there in an ordinary product.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .chunks import in_chunks, power_of_two_chunk
from .decay import states_before
from .delta_rule import joints


def channel_decayed_attention(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Query i sees ``state`` and then the keys 0..i, through the decays between.

    Args:
        q: (B, H, N, D).
        k: (B, H, N, D).
        v: (B, H, N, E).
        log_decay: (B, H, N, D); B may be 1.
        state: (B, H, D, E).

    Returns:
        The output, (B, H, N, E), and the state after the last token.
    """
    length = q.shape[2]
    size = power_of_two_chunk(length)
    # (B, H, n, C, ...)
    q, k, v, steps = (in_chunks(x, size, -2) for x in (q, k, v, log_decay.to(q.dtype)))
    weights, q, k, total = within_chunks(q.unsqueeze(-2), k.unsqueeze(-2), steps)
    weights, q, k = weights[..., 0, 0, :, :], q[..., 0, :, :], k[..., 0, :, :]
    updates = k.transpose(-2, -1) @ v  # (B, H, n, D, E)
    before, after = states_before(total.exp().unsqueeze(-1), updates, state)
    out = weights @ v + q @ before
    return out.flatten(2, 3)[:, :, :length], after


def within_chunks(q: Tensor, k: Tensor, steps: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights of the pairs of a chunk, and what its past and its future see of it.

    Blocks of one token are merged with their neighbours, level by level, until the chunk is one
    block. Its queries are kept as the block's start sees them, its keys as its end does.

    Decays of blocks are summed as logarithms: a token's own may be so near to 1 that float32 rounds
    it by a fifth of what it forgets, and a product of them would be off by as much.

    Args:
        q: P queries of a token, (..., C, P, D).
        k: R keys of a token, (..., C, R, D).
        steps: log decay of the state before each token, (..., C, D).

    Returns:
        The weights, (..., P, R, C, C), zero for later keys; queries decayed since the chunk's
        start, (..., P, C, D), and keys decayed until its end, (..., R, C, D); the log decay over
        all of it, (..., D).
    """
    # Pairs are (..., blocks, P, R, tokens, tokens), tokens (..., blocks, P or R, tokens, D).
    weights = (q.unsqueeze(-2) * k.unsqueeze(-3)).sum(dim=-1)[..., None, None]
    q, k = (q * steps.exp().unsqueeze(-2)).unsqueeze(-2), k.unsqueeze(-2)
    while steps.shape[-2] > 1:
        (q_1, q_2), (k_1, k_2) = _neighbours(q, -4), _neighbours(k, -4)
        (upper, lower), (steps_1, steps_2) = _neighbours(weights, -5), _neighbours(steps, -2)
        across = q_2.flatten(-3, -2) @ k_1.flatten(-3, -2).mT
        across = across.unflatten(-1, k_1.shape[-3:-1]).unflatten(-3, q_2.shape[-3:-1])
        upper = torch.cat((upper, torch.zeros_like(upper)), dim=-1)
        lower = torch.cat((across.transpose(-3, -2), lower), dim=-1)
        weights = torch.cat((upper, lower), dim=-2)
        q = torch.cat((q_1, q_2 * steps_1.exp()[..., None, None, :]), dim=-2)
        k = torch.cat((k_1 * steps_2.exp()[..., None, None, :], k_2), dim=-2)
        steps = steps_1 + steps_2
    return weights.squeeze(-5), q.squeeze(-4), k.squeeze(-4), steps.squeeze(-2)


def _neighbours(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Blocks 0, 2, 4, ... and blocks 1, 3, 5, ... of an axis."""
    first, second = torch.unflatten(x, dim, (-1, 2)).unbind(dim)
    return first, second


def value_decayed_attention(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """The same with decays of the values' channels, S_t = S_{t-1} diag(exp(g_t)) + k_t v_t^T.

    Scores are plain products then, and what is carried to a cut is the values before it.

    Args:
        q: (B, H, N, D).
        k: (B, H, N, D).
        v: (B, H, N, E).
        log_decay: (B, H, N, E); B may be 1.
        state: (B, H, D, E).

    Returns:
        The output, (B, H, N, E), and the state after the last token.
    """
    length = q.shape[2]
    size = power_of_two_chunk(length)
    q, k, v, steps = (in_chunks(x, size, -2) for x in (q, k, v, log_decay.to(q.dtype)))
    scores = q @ k.mT
    # (B, H, n, blocks, tokens, E); `since` are decays from a block's start, `total` over all of it.
    total, since = steps, steps.unsqueeze(-2)
    kept, out = (x.unsqueeze(-2) for x in (v, scores.diagonal(dim1=-2, dim2=-1).unsqueeze(-1) * v))
    while total.shape[-2] > 1:
        (kept_1, kept_2), (out_1, out_2) = _neighbours(kept, -3), _neighbours(out, -3)
        (since_1, since_2), (total_1, total_2) = _neighbours(since, -3), _neighbours(total, -2)
        across = joints(scores, kept.shape[-2]) @ kept_1
        out = torch.cat((out_1, out_2 + across * since_2.exp()), dim=-2)
        kept = torch.cat((kept_1 * total_2.exp().unsqueeze(-2), kept_2), dim=-2)
        since = torch.cat((since_1, since_2 + total_1.unsqueeze(-2)), dim=-2)
        total = total_1 + total_2
    kept, out, since = (x.squeeze(-3) for x in (kept, out, since))
    before, after = states_before(total.exp(), k.mT @ kept, state)
    out = out + (q @ before) * since.exp()
    return out.flatten(2, 3)[:, :, :length], after
