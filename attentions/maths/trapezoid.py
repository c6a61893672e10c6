"""Linear attention with a decay, in which a token writes its neighbour before it once more.

    S_t = exp(g_t) (S_{t-1} + e_t k_{t-1} v_{t-1}^T) + o_t k_t v_t^T        out_t = S_t^T q_t

That is the trapezoid rule for an equation in continuous time, as Mamba-3 has it. Query i gives key
j < i the weight exp(g_{j+1} + ... + g_i) q_i . k_j (o_j + e_{j+1}), and its own key o_i q_i . k_i:
one sum over pairs, as in `decay`, with another diagonal.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .chunks import CHUNK, in_chunks
from .decay import chunk_decays, states_before


def trapezoid_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    early: Tensor,
    own: Tensor,
    state: Tensor,
) -> tuple[Tensor, Tensor]:
    """Query i sees ``state`` and then the keys 0..i, chunk by chunk.

    Args:
        q: (B, H, N, D).
        k: (B, H, N, D).
        v: (B, H, N, E).
        log_decay: g, (B, H, N).
        early: e, (B, H, N); that of the first token weighs nothing, since its neighbour is in
            ``state`` already.
        own: o, (B, H, N).
        state: (B, H, D, E).

    Returns:
        The output, (B, H, N, E), and the state after the last token.
    """
    length = q.shape[2]
    size = min(CHUNK, length)
    full = own + functional.pad(early[..., 1:], (0, 1))
    from_start, to_end, between = chunk_decays(log_decay, length, size, q.dtype)
    q, k, v = (in_chunks(x, size) for x in (q, k, v))  # (B, H, n, C, ...)
    own, full = (in_chunks(x, size, -1) for x in (own, full))
    updates = (k * to_end * full.unsqueeze(-1)).mT @ v
    before, after = states_before(from_start[..., -1:, :], updates, state)
    shares = between.tril(-1) * full.unsqueeze(-2) + torch.diag_embed(own)
    out = (q @ k.mT * shares) @ v + (q * from_start) @ before
    return out.flatten(2, 3)[:, :, :length], after


def turned(x: Tensor, angle: Tensor) -> Tensor:
    """Turn the first pairs of adjacent channels, one by each angle: (..., D), (..., A)."""
    pairs, rest = x[..., : 2 * angle.shape[-1]], x[..., 2 * angle.shape[-1] :]
    cosine, sine = angle.cos(), angle.sin()
    even, odd = pairs[..., ::2], pairs[..., 1::2]
    pairs = torch.stack((even * cosine - odd * sine, even * sine + odd * cosine), dim=-1)
    return torch.cat((pairs.flatten(-2), rest), dim=-1)


def reference_trapezoid(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, early: Tensor, own: Tensor
) -> Tensor:
    """`trapezoid_attention` from an empty state, by N x N matrices: the two terms apart."""
    total = log_decay.cumsum(dim=-1)
    decay = (total[..., :, None] - total[..., None, :]).tril().exp().tril()
    now = (q @ k.mT * decay * own.unsqueeze(-2)) @ v
    k, v = (functional.pad(x[..., :-1, :], (0, 0, 1, 0)) for x in (k, v))
    weight = early * log_decay.exp()
    out: Tensor = now + (q @ k.mT * decay * weight.unsqueeze(-2)) @ v
    return out
