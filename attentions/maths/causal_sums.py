"""Causal sums without a normaliser: what query i reads is sum_{j <= i} phi(q_i) . phi(k_j) v_j.

`_kernel_attention` divides such a sum by the sum of its weights plus an epsilon. Here are the
mechanisms that divide otherwise or not at all; those that need the sum of weights give v a column
of ones.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from ..geometry import CallShape
from .chunks import in_chunks, padded_len, sum_of_earlier
from .kernel_attention import CHUNK


def causal_sums(
    phi_q: Tensor, phi_k: Tensor, v: Tensor, context: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Query i reads what is in ``context`` and then keys 0..i; N = M.

    Args:
        phi_q: (B, H, N, F).
        phi_k: (B, H, N, F).
        v: (B, H, N, E).
        context: sum of phi(k_j) v_j^T over the past, (B, H, F, E); None for no past.

    Returns:
        The sums, (B, H, N, E), and the context after the last token.
    """
    length = phi_q.shape[-2]
    size = min(CHUNK, length)
    # (B, H, chunks, size, ...): a token of zeros adds nothing.
    queries, keys, values = (in_chunks(x, size) for x in (phi_q, phi_k, v))
    contexts = keys.transpose(-2, -1) @ values
    before = sum_of_earlier(contexts)
    if context is not None:
        before = before + context[:, :, None]
    scores = (queries @ keys.transpose(-2, -1)).tril()  # (B, H, chunks, size, size)
    sums = (scores @ values + queries @ before).flatten(2, 3)[:, :, :length]
    return sums, before[:, :, -1] + contexts[:, :, -1]


def with_ones(v: Tensor) -> Tensor:
    """V with a column of ones: the sum over that column is the sum of weights."""
    return functional.pad(v, (0, 1), value=1.0)


def causal_sums_flops(shape: CallShape, num_features: int, value_dim: int) -> int:
    """What `causal_sums` executes: whole chunks, with the hidden pairs within them."""
    size = min(CHUNK, shape.query_len)
    tokens = shape.batch_size * shape.num_heads * padded_len(shape.query_len, size)
    return 2 * tokens * (size * (num_features + value_dim) + 2 * num_features * value_dim)
