"""Kernel attention: the weight of a pair is phi(q) . phi(k), so keys and values can meet first.

    out_i = sum_j phi(q_i) . phi(k_j) v_j / (sum_j phi(q_i) . phi(k_j) + eps)

is (Q' (K'^T V)) / (Q' K'^T 1 + eps), in O(N F E) for F features. An epsilon on the mean over keys,
as FLatten and NaLa have it, is M times this one.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..geometry import CallShape
from .chunks import in_chunks, sum_of_earlier

CHUNK = 128
"""Tokens that the causal form takes at once: enough for a product, few enough to stay linear."""


class KernelState(NamedTuple):
    """All that the past leaves behind.

    Attributes:
        context: sum of phi(k_j) v_j^T, (B, H, F, E).
        key_sum: sum of phi(k_j), (B, H, F).
    """

    context: Tensor
    key_sum: Tensor

    @classmethod
    def empty(
        cls, sizes: tuple[int, int, int, int], *, dtype: torch.dtype, device: torch.device
    ) -> KernelState:
        """The state before the first token; sizes are (B, H, F, E)."""
        context = torch.zeros(sizes, dtype=dtype, device=device)
        return cls(context, context.new_zeros(sizes[:3]))


def weighted_values(phi_q: Tensor, phi_k: Tensor, v: Tensor) -> Tensor:
    """Q' (K'^T V): (B, H, N, F), (B, H, M, F), (B, H, M, E) -> (B, H, N, E)."""
    return phi_q @ (phi_k.transpose(-2, -1) @ v)


def weight_sums(phi_q: Tensor, phi_k: Tensor) -> Tensor:
    """Q' K'^T 1: (B, H, N, F), (B, H, M, F) -> (B, H, N, 1)."""
    return phi_q @ phi_k.sum(dim=-2).unsqueeze(-1)


def causal_kernel_attention(
    phi_q: Tensor,
    phi_k: Tensor,
    v: Tensor,
    eps: float,
    state: KernelState | None = None,
    *,
    least: float = 0.0,
) -> tuple[Tensor, KernelState]:
    """Query i sees the keys of ``state`` and then 0..i; N = M.

    Within a chunk pairs are written out and the later ones set to zero; earlier chunks come in by
    their running sums. Neither depends on a later key. What divides is ``least`` or more.

    Returns:
        The output, (B, H, N, E), and the state after the last token.
    """
    length = phi_q.shape[-2]
    size = min(CHUNK, length)
    # (B, H, chunks, size, ...): a token of zeros has weight zero, and none comes after it.
    queries, keys, values = (in_chunks(x, size) for x in (phi_q, phi_k, v))
    contexts, key_sums = keys.transpose(-2, -1) @ values, keys.sum(dim=-2)
    before, key_sum_before = sum_of_earlier(contexts), sum_of_earlier(key_sums)
    if state is not None:
        before = before + state.context[:, :, None]
        key_sum_before = key_sum_before + state.key_sum[:, :, None]

    scores = (queries @ keys.transpose(-2, -1)).tril()  # (B, H, chunks, size, size)
    numerator = scores @ values + queries @ before
    normaliser = scores.sum(dim=-1, keepdim=True) + queries @ key_sum_before.unsqueeze(-1) + eps
    normaliser = normaliser.clamp(min=least) if least else normaliser
    out = divide(numerator, normaliser).flatten(2, 3)[:, :, :length]
    after = KernelState(
        before[:, :, -1] + contexts[:, :, -1], key_sum_before[:, :, -1] + key_sums[:, :, -1]
    )
    return out, after


def divide(numerator: Tensor, normaliser: Tensor) -> Tensor:
    """The quotient; zero where all weights are zero, as for a query whose keys are all hidden."""
    return numerator / normaliser.masked_fill(normaliser == 0, 1.0)


def kernel_flops(shape: CallShape, num_features: int) -> int:
    """K'^T V, Q' times it, and the normaliser; as many for the recurrence, token by token."""
    meet = 2 * num_features * shape.value_dim * (shape.num_keys + shape.num_tokens)
    return meet + 2 * num_features * shape.num_tokens
