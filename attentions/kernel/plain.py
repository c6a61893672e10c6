"""The formula over whole tensors, by differentiable operators: for any device and compiler."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..maths.feature_maps import exp_
from ..maths.pairs.masks import count_keys
from ..precision import widen
from .causal import causal_sums, cheap_pairs, chunked, divisor, no_past
from .derivatives import Parts, as_parts
from .tiles import Call, over_columns

_ALL = slice(None)
_FEATURES = 2**20
"""Features of a head that are alive at once, about, where tokens are taken in order."""


class KernelState(NamedTuple):
    """All that the past leaves behind.

    Attributes:
        context: sum of phi(k_j) v_j^T, (B, H, F, E).
        key_sum: sum of phi(k_j), (B, H, F); None where nothing divides.
        position: number of tokens so far, if features depend on places; else 0.
    """

    context: Tensor
    key_sum: Tensor | None = None
    position: int = 0


def plain(call: Call, q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None = None) -> Tensor:
    """Compute the same as tiles do, from q, k and v as they come; the output is wide."""
    core = call.core
    q, k, v = widen(q), widen(k), widen(v)
    if core.geometry.causal:
        return plain_causal(call, q, k, v, key_mask=key_mask)[0]
    hidden = None if key_mask is None else ~key_mask[:, None, :, None]
    phi_q = as_parts(core.phi_q(q, *call.inputs(slice(q.shape[2]))))
    phi_k = _key_features(call, k, hidden)
    key_sums = tuple(phi.sum(dim=-2).unsqueeze(-1) for phi in phi_k)
    phi_k, turned_q = (call.turned(phi, _ALL) for phi in (phi_k, phi_q))
    contexts = tuple(phi.transpose(-2, -1) @ v for phi in phi_k)
    contexts, key_sums = core.combine(contexts, key_sums)
    numerator = _read(turned_q, contexts)
    if not core.divides:
        return numerator
    normaliser = _read(phi_q, key_sums)
    if core.eps:
        count = count_keys(k, key_mask) if core.eps_on_mean else 1
        normaliser = normaliser + core.eps * count
    if key_mask is not None:
        normaliser = normaliser.masked_fill(normaliser == 0, 1.0)  # all keys are hidden
    if core.least:
        normaliser = normaliser.clamp(min=core.least)
    return numerator / over_columns(normaliser, v.shape[-1])


def plain_causal(
    call: Call,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    state: KernelState | None = None,
    key_mask: Tensor | None = None,
) -> tuple[Tensor, KernelState]:
    """Query i sees the keys of ``state`` and then 0..i; the output, and the state after them."""
    core = call.core
    past = None if state is None else (state.context, state.key_sum)
    position = 0 if state is None else state.position
    outputs = []
    for tokens in chunked(q.shape[2], _FEATURES // core.feature_dim):
        of_q, of_k, of_v = (x[:, :, tokens] for x in (q, k, v))
        inputs = call.inputs(tokens)
        phi_q = torch.cat(as_parts(core.phi_q(of_q, *inputs)), dim=-1)
        phi_k = torch.cat(as_parts(core.phi_k(of_k, *inputs)), dim=-1)
        core.check_width(phi_k.shape[-1])
        pairs = cheap_pairs(core, of_q, of_k)
        if key_mask is not None:
            phi_k = phi_k.masked_fill(~key_mask[:, None, tokens, None], 0.0)
            pairs = None
        past = past or no_past(phi_k, of_v, divides=core.divides)
        sums, totals, past = causal_sums(phi_q, phi_k, of_v, past, pairs)
        n = divisor(core, totals)
        if n is not None:
            if key_mask is not None:
                n = n.masked_fill(n == 0, 1.0)  # all keys so far are hidden
            sums = sums / n
        outputs.append(sums)
    assert past is not None
    out = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)
    end = position + q.shape[2] if call.places else 0
    return out, KernelState(*past, end)


def _read(phi_q: Parts, sums: Parts) -> Tensor:
    first, *others = (phi @ total for phi, total in zip(phi_q, sums, strict=True))
    for other in others:
        first = first + other
    return first


def _key_features(call: Call, k: Tensor, hidden: Tensor | None) -> Parts:
    """Zeros for a hidden key, which sets no peak."""
    found = as_parts(call.core.phi_k(k, *call.inputs(slice(k.shape[2]))))
    if call.core.floor is not None:
        exponents, s = found
        if hidden is not None:
            # The lowest finite number: minus infinity less itself would be NaN.
            lowest = torch.finfo(k.dtype).min
            exponents, s = (x.masked_fill(hidden, lowest) for x in (exponents, s))
        peak = s.detach().amax(dim=-2, keepdim=True)
        found = (exp_(exponents - peak) + call.core.floor,)
    if hidden is None:
        return found
    return tuple(phi.masked_fill(hidden, 0.0) for phi in found)
