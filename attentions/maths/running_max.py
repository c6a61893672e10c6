"""Causal kernel attention with exponential key features, scaled by a running maximum.

The features of key j are u_j exp(s_j) with u_j in (0, 1], and query i takes them relative to the
largest exponent that it may see, m_i = max_{j <= i} s_j:

    w_ij  = phi(q_i) . (u_j exp(s_j - m_i) + eps)
    out_i = sum_{j <= i} w_ij v_j / sum_{j <= i} w_ij

A maximum over all keys would let a late key scale the earlier outputs, through eps.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..geometry import CallShape
from .kernel_attention import divide

CHUNK = 128
"""Tokens whose pairs are written out at once."""


class RunningMaxState(NamedTuple):
    """All that the past leaves behind.

    Attributes:
        context: sum of u_j exp(s_j - peak) v_j^T, (B, H, F, E).
        key_sum: sum of u_j exp(s_j - peak), (B, H, F).
        value_sum: sum of v_j, which the eps of each weight multiplies, (B, H, E).
        num_keys: number of keys, (B, 1).
        peak: the largest s_j, (B, H); minus infinity before the first key.
    """

    context: Tensor
    key_sum: Tensor
    value_sum: Tensor
    num_keys: Tensor
    peak: Tensor

    @classmethod
    def empty(
        cls, sizes: tuple[int, int, int, int], *, dtype: torch.dtype, device: torch.device
    ) -> RunningMaxState:
        """The state before the first token; sizes are (B, H, F, E)."""
        batch_size, num_heads, num_features, value_dim = sizes
        context = torch.zeros(sizes, dtype=dtype, device=device)
        return cls(
            context=context,
            key_sum=context.new_zeros(batch_size, num_heads, num_features),
            value_sum=context.new_zeros(batch_size, num_heads, value_dim),
            num_keys=context.new_zeros(batch_size, 1),
            peak=context.new_full((batch_size, num_heads), -torch.inf),
        )


def running_max_attention(
    phi_q: Tensor,
    u: Tensor,
    s: Tensor,
    v: Tensor,
    kept: Tensor | None,
    *,
    eps: float,
    state: RunningMaxState,
) -> tuple[Tensor, RunningMaxState]:
    """The keys of ``state`` come first, then those given; N = M.

    Args:
        phi_q: query features, positive, (B, H, N, F).
        u: key features relative to the key's own largest, (B, H, N, F); zeros for a hidden key.
        s: logarithm of that largest, without gradient, (B, H, N).
        v: values, (B, H, N, E).
        kept: False hides a key, (B, N); None if none is hidden.
        eps: added to each key feature.
        state: what came before.

    Returns:
        The output, (B, H, N, E), zero for a query whose keys are all hidden, and the state after
        the last token.
    """
    outputs = []
    chunks = zip(*(x.split(CHUNK, dim=2) for x in (phi_q, u, s, v)), strict=True)
    for number, (of_q, of_u, of_s, of_v) in enumerate(chunks):
        in_chunk = None if kept is None else kept[:, number * CHUNK : (number + 1) * CHUNK]
        out, state = _next_chunk(of_q, of_u, of_s, of_v, in_chunk, eps=eps, state=state)
        outputs.append(out)
    return (outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)), state


def _next_chunk(
    phi_q: Tensor,
    u: Tensor,
    s: Tensor,
    v: Tensor,
    kept: Tensor | None,
    *,
    eps: float,
    state: RunningMaxState,
) -> tuple[Tensor, RunningMaxState]:
    peak = torch.maximum(s.cummax(dim=-1).values, state.peak[..., None])  # m_i, (B, H, C)
    floor = eps * phi_q.sum(dim=-1, keepdim=True)  # phi(q_i) . eps, (B, H, C, 1)

    # Later keys leave before the exponential: they may lie far above m_i.
    fade = torch.minimum(s[..., None, :] - peak[..., :, None], _highest(s)).exp_()
    weights = ((phi_q @ u.transpose(-2, -1)) * fade).add_(floor).tril_()  # (B, H, C, C)
    num_kept: int | Tensor = s.shape[-1]
    if kept is not None:
        weights = weights.masked_fill(~kept[:, None, None, :], 0.0)
        v = v.masked_fill(~kept[:, None, :, None], 0.0)
        num_kept = kept.sum(dim=-1, keepdim=True)

    past = (state.peak[..., None] - peak).exp()[..., None]  # exp(M_old - m_i), (B, H, C, 1)
    numerator = weights @ v + past * (phi_q @ state.context) + floor * state.value_sum[..., None, :]
    normaliser = (
        weights.sum(dim=-1, keepdim=True)
        + past * (phi_q @ state.key_sum[..., None])
        + floor * state.num_keys[..., None, None]
    )

    new_peak = peak[..., -1]
    rescale = (state.peak - new_peak).exp()  # exp(M_old - M_new), (B, H)
    arriving = u * (s - new_peak[..., None]).exp()[..., None]
    after = RunningMaxState(
        context=rescale[..., None, None] * state.context + arriving.transpose(-2, -1) @ v,
        key_sum=rescale[..., None] * state.key_sum + arriving.sum(dim=2),
        value_sum=state.value_sum + v.sum(dim=2),
        num_keys=state.num_keys + num_kept,
        peak=new_peak,
    )
    return divide(numerator, normaliser), after


def _highest(s: Tensor) -> Tensor:
    """The most that s_j - m_i may be: zero, and minus infinity for a later key; (C, C)."""
    length = s.shape[-1]
    return s.new_full((length, length), -torch.inf).triu_(1)


def running_max_flops(shape: CallShape, num_features: int) -> int:
    """FLOPs that `running_max_attention` executes, with the hidden pairs within each chunk."""
    whole_chunks, rest = divmod(shape.query_len, CHUNK)
    pairs = shape.batch_size * shape.num_heads * (whole_chunks * CHUNK**2 + rest**2)
    within = 2 * pairs * (num_features + shape.value_dim)
    across = 2 * shape.num_tokens * num_features * (2 * shape.value_dim + 1)
    return within + across
