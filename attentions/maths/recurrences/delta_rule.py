"""The delta rule: a new value replaces, in part, what is stored under its key.

    S'_t = exp(g_t) S_{t-1}
    u_t  = w_t - S'_t^T e_t
    S_t  = S'_t + k_t u_t^T        out_t = S_t^T q_t        g_t <= 0

with w_t = beta_t v_t and e_t = beta_t k_t. That is decayed attention over the values u. Within a
chunk that finds the state S_0,

    u_i + sum_{j<i} D_ij (e_i . k_j) u_j = w_i - D_i S_0^T e_i

with D_ij = exp(g_{j+1} + ... + g_i) and D_i = exp(g_1 + ... + g_i): a triangular system
(I + A) U = W - D E S_0 whose inverse T knows no state. So T is taken of all chunks at once (the UT
transform: Yang et al., 2024, arXiv:2406.06484; with decays Yang et al., 2025, arXiv:2412.06464),
and chunk after chunk is left U = T W - (T D E) S_0 and the next state.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ...precision import backward_without_autocast
from .chunks import DELTA_CHUNK, in_chunks, power_of_two_chunk
from .decay import chunk_by_chunk, chunk_decays

LENGTH_EPS = 1e-6
"""Added to a squared length, as in the authors' code: shorter vectors than 1e-3 stay shorter than
1, zero stays zero, and no gradient grows more than a thousandfold."""


def unit_length(x: Tensor) -> Tensor:
    """Divide by the length over the last axis, x / sqrt(||x||^2 + 1e-6)."""
    return x * (x.square().sum(dim=-1, keepdim=True) + LENGTH_EPS).rsqrt()


def delta_rule(
    q: Tensor,
    k: Tensor,
    erase: Tensor,
    write: Tensor,
    log_decay: Tensor,
    state: Tensor,
    *,
    erases_first: bool = False,
) -> tuple[Tensor, Tensor]:
    """Run S_t = S' + k_t (w_t - X^T e_t)^T from ``state`` over the tokens, chunk by chunk.

    X is S', the decayed state, or S_{t-1} where a token erases first, as in Comba: in the system
    D_{i-1} then stands for D_i.

    Args:
        q: (B, H, N, D).
        k: (B, H, N, D).
        erase: e, (B, H, N, D): beta_t k_t in the delta rule.
        write: w, (B, H, N, E): beta_t v_t in the delta rule.
        log_decay: g, (B, H, N); B may be 1, and N may be 1 if it never changes.
        state: (B, H, D, E).
        erases_first: whether the state is read before it decays.

    Returns:
        The output, (B, H, N, E), and the state after the last token.
    """
    length = q.shape[2]
    size = power_of_two_chunk(length, DELTA_CHUNK)
    q, k, erase, write = (in_chunks(x, size) for x in (q, k, erase, write))  # (B, H, n, C, ...)
    from_start, to_end, between = chunk_decays(log_decay, length, size, q.dtype)
    start, pairs = from_start, between
    if erases_first:
        start = functional.pad(from_start[..., :-1, :], (0, 0, 1, 0), value=1.0)
        pairs = functional.pad(between[..., :-1, :], (0, 0, 1, 0))
    inverse = unit_triangular_inverse(erase @ k.mT * pairs)
    written, erased = inverse @ write, (inverse * start.mT) @ erase
    weights, seen = (q @ k.mT) * between, q * from_start
    left = from_start[..., -1:, :]
    out, after = chunk_by_chunk(seen, weights, written, k * to_end, left, state, erased)
    return out[:, :, :length], after


def unit_triangular_inverse(below: Tensor) -> Tensor:
    """(I + A)^(-1) for a strictly lower triangular A, (..., C, C), with C a power of two.

    Blocks on the diagonal are inverted and merged with their neighbours, level by level: the
    inverse of [[P, 0], [R, Q]] is [[P^-1, 0], [-Q^-1 R P^-1, Q^-1]]. A solver would go through the
    batch one by one. Its errors are of the size of a solver's where no block's inverse is large, as
    in the delta rule: for keys of unit length and beta up to 2 no entry of theirs exceeds beta.
    """
    inverse: Tensor = _UnitTriangularInverse.apply(below)  # type: ignore[no-untyped-call]
    return inverse


class _UnitTriangularInverse(torch.autograd.Function):
    """The gradient needs the inverse only, and none of the steps towards it."""

    generate_vmap_rule = True

    @staticmethod
    def forward(below: Tensor) -> Tensor:
        size, inverse = below.shape[-1], -below.tril(-1)
        inverse.diagonal(dim1=-2, dim2=-1).fill_(1)
        for tokens in (1 << level for level in range(1, size.bit_length() - 1)):
            blocks = inverse.unflatten(-1, (-1, 2, tokens)).unflatten(-4, (-1, 2, tokens))
            blocks = blocks.diagonal(dim1=-6, dim2=-3).movedim(-1, -5)
            first, second = blocks[..., 0, :, 0, :], blocks[..., 1, :, 1, :]
            joint = blocks[..., 1, :, 0, :]
            joint.copy_(second @ joint @ first)
        return inverse

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    @backward_without_autocast
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (inverse,) = ctx.saved_tensors
        transposed = inverse.transpose(-2, -1)
        below: Tensor = -(transposed @ gradient @ transposed).tril(-1)
        return below


def joints(below: Tensor, tokens: int) -> Tensor:
    """The blocks R that join neighbours on the diagonal, (..., blocks / 2, tokens, tokens)."""
    pairs = torch.unflatten(torch.unflatten(below, -1, (-1, 2, tokens)), -4, (-1, 2, tokens))
    joints = pairs[..., :, 1, :, :, 0, :]  # (..., blocks / 2, tokens, blocks / 2, tokens)
    return joints.diagonal(dim1=-4, dim2=-2).movedim(-1, -3)
