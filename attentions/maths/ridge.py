"""Ridge regression on all tokens so far, whose prediction for a query is the output.

    H_t = exp(g_t) H_{t-1} + beta_t k_t k_t^T        M_t = exp(g_t) M_{t-1} + beta_t k_t v_t^T
    out_t = M_t^T x_t        (H_t + diag(ridge)) x_t = q_t        g_t <= 0

A few tokens at a time have their matrices H_t written out, so that their systems are solved at
once; values then meet x in pairs, as queries in `decay`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..geometry import CallShape
from .chunks import in_chunks, padded_len
from .decay import chunk_decays

_CHUNK = 16
"""Tokens whose matrices H_t are written out at once; it divides the chunks of `chunks`."""
_CG_EPS = 1e-5
"""Added to both denominators of a step of conjugate gradients, in the authors' code."""


class RidgeState(NamedTuple):
    """Sums over the keys so far: H, (B, H, D, D), of themselves and M, (B, H, D, E), of values."""

    gram: Tensor
    context: Tensor


def solve_ridge(gram: Tensor, ridge: Tensor, q: Tensor, steps: int | None) -> Tensor:
    """Solve (gram + diag(ridge)) x = q for each token.

    Args:
        gram: (..., T, D, D), or (..., 1, D, D) of one token.
        ridge: (..., 1, D).
        q: (..., T, D).
        steps: of conjugate gradients from 0; None for an exact solve.

    Returns:
        x, (..., T, D).
    """
    if steps is None:
        solved: Tensor = torch.linalg.solve(gram + torch.diag_embed(ridge), q.unsqueeze(-1))
        return solved.squeeze(-1)
    x, rest, way, size = torch.zeros_like(q), q, q, _square(q)
    for _ in range(steps):
        image = (gram @ way.unsqueeze(-1)).squeeze(-1) + ridge * way
        pace = size / ((way * image).sum(dim=-1, keepdim=True) + _CG_EPS)
        x, rest, before = x + pace * way, rest - pace * image, size
        size = _square(rest)
        way = rest + size / (before + _CG_EPS) * way
    return x


def ridge_regression(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    log_decay: Tensor,
    ridge: Tensor,
    state: RidgeState,
    *,
    steps: int | None,
) -> tuple[Tensor, RidgeState]:
    """Run the recurrence from ``state`` over the tokens, a few at a time.

    Args:
        q: (B, H, N, D).
        k: (B, H, N, D).
        v: (B, H, N, E).
        beta: (B, H, N); B may be 1, and N may be 1 if it never changes.
        log_decay: as beta.
        ridge: (1, H, 1, D).
        state: before the first token.
        steps: of conjugate gradients; None for an exact solve.

    Returns:
        The output, (B, H, N, E), and the state after the last token.
    """
    length, (gram, context) = q.shape[2], state
    beta, log_decay = (x.to(q.dtype).expand(len(q), -1, length) for x in (beta, log_decay))
    from_start, to_end, between = chunk_decays(log_decay, length, _CHUNK, q.dtype)
    pairs = between * in_chunks(beta, _CHUNK, -1).unsqueeze(-2)
    q, k, v, written = (in_chunks(x, _CHUNK) for x in (q, k, v, beta.unsqueeze(-1) * k))
    outputs, written = [], (written * to_end).mT
    parts = (x.unbind(2) for x in (q, k, v, written, pairs, from_start))
    for q_c, k_c, v_c, new, weights, left in zip(*parts, strict=True):
        squares = (k_c.unsqueeze(-1) * k_c.unsqueeze(-2)).flatten(-2)  # (B, H, C, D * D)
        grams = left * gram.flatten(-2).unsqueeze(-2) + weights @ squares
        grams = grams.unflatten(-1, gram.shape[-2:])
        x = solve_ridge(grams, ridge, q_c, steps)
        outputs.append((x @ k_c.mT * weights) @ v_c + left * (x @ context))
        gram, context = grams[..., -1, :, :], left[..., -1:, :] * context + new @ v_c
    gram = gram.clone()  # a view would keep those of a whole chunk
    return torch.cat(outputs, dim=2)[:, :, :length], RidgeState(gram, context)


def reference_ridge_regression(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    log_decay: Tensor,
    ridge: Tensor,
    *,
    steps: int | None,
) -> Tensor:
    """`ridge_regression` from an empty state: the inverses, or the pairs, of all tokens at once."""
    total = log_decay.expand(len(q), -1, q.shape[2]).cumsum(dim=-1)
    decay = (total[..., :, None] - total[..., None, :]).tril().exp().tril()
    pairs = decay * beta[..., None, :]
    if steps is None:
        gram = torch.einsum("bhij,bhjd,bhje->bhide", pairs, k, k) + torch.diag_embed(ridge)
        x = torch.einsum("bhide,bhie->bhid", torch.linalg.inv(gram), q)
    else:
        x, rest, way = torch.zeros_like(q), q, q
        for _ in range(steps):
            image = (way @ k.mT * pairs) @ k + ridge * way
            pace = _square(rest) / ((way * image).sum(dim=-1, keepdim=True) + _CG_EPS)
            x, after = x + pace * way, rest - pace * image
            way = after + _square(after) / (_square(rest) + _CG_EPS) * way
            rest = after
    out: Tensor = (x @ k.mT * pairs) @ v
    return out


def solve_flops(width: int, steps: int | None) -> int:
    """Elimination and two triangular systems, or a product with H_t in each step."""
    return 2 * width**2 * steps if steps else 2 * width**3 // 3 + 2 * width**2


def solves_of_chunks_flops(shape: CallShape) -> int:
    """Exact solves of whole chunks, which torch's counter does not see."""
    tokens = shape.batch_size * shape.num_heads * padded_len(shape.query_len, _CHUNK)
    return tokens * solve_flops(shape.head_dim, None)


def _square(x: Tensor) -> Tensor:
    return x.square().sum(dim=-1, keepdim=True)
