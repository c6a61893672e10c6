"""The formula over whole tensors, by differentiable operators: for any device and compiler."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..maths.kernel_attention import causal_kernel_attention
from ..maths.masks import count_keys
from .maps import Call, Parts

_ALL = slice(None)


def plain_attention(
    call: Call,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weights: Sequence[Tensor],
    key_mask: Tensor | None = None,
) -> Tensor:
    """What `attend` computes, of wide tensors."""
    hidden = None if key_mask is None else ~key_mask[:, None, :, None]
    phi_q = call.queries(q, weights, slice(q.shape[-2]))
    phi_k = _key_features(call, k, weights, hidden)
    if call.causal:
        joined_q, joined_k = (torch.cat(phi, dim=-1) for phi in (phi_q, phi_k))
        return causal_kernel_attention(joined_q, joined_k, v, call.eps or 0.0, least=call.least)[0]
    key_sums = tuple(phi.sum(dim=-2).unsqueeze(-1) for phi in phi_k)
    phi_k, turned_q = (call.turned(phi, _ALL, _ALL) for phi in (phi_k, phi_q))
    contexts = tuple(phi.transpose(-2, -1) @ v for phi in phi_k)
    if call.gather is not None:
        contexts, key_sums = call.gather(contexts, key_sums)
    numerator = _read(turned_q, contexts)
    if call.eps is None:
        return numerator
    normaliser = _read(phi_q, key_sums)
    if call.eps:
        normaliser = normaliser + call.eps * (count_keys(k, key_mask) if call.mean else 1)
    if key_mask is not None:
        normaliser = normaliser.masked_fill(normaliser == 0, 1.0)  # all keys are hidden
    if call.least:
        normaliser = normaliser.clamp(min=call.least)
    return numerator / call.over_columns(normaliser)


def _read(phi_q: Parts, sums: Parts) -> Tensor:
    first, *others = (phi @ total for phi, total in zip(phi_q, sums, strict=True))
    for other in others:
        first = first + other
    return first


def _key_features(call: Call, k: Tensor, weights: Sequence[Tensor], hidden: Tensor | None) -> Parts:
    """Zeros for a hidden key, which sets no peak."""
    found = call.keys(k, weights, slice(k.shape[-2]))
    if call.keys.floor is not None:
        exponents, s = found
        if hidden is not None:
            # The lowest finite number: minus infinity less itself would be NaN.
            lowest = torch.finfo(k.dtype).min
            exponents, s = (x.masked_fill(hidden, lowest) for x in (exponents, s))
        peak = s.detach().amax(dim=-2, keepdim=True)
        found = ((exponents - peak).exp2() + call.keys.floor,)
    if hidden is None:
        return found
    return tuple(phi.masked_fill(hidden, 0.0) for phi in found)
