"""The way back of `tiles`: gradients, tile by tile.

The backward pass has S and z and finds features again. With g_i = dout_i / (phi(q_i) z + eps) and
c_i = -(g_i . out_i),

    queries:  dphi(q_i) = S g_i + c_i z,  dS = sum_i phi(q_i) g_i^T,  dz = sum_i c_i phi(q_i)
    keys:     dphi(k_j) = dS v_j + dz,    dv_j = dS^T phi(k_j)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..maths.feature_maps import exp_
from ..precision import widen
from .derivatives import Parts, Pullback, linearised
from .tiles import (
    SHORTEST,
    Call,
    Sums,
    add_product,
    combined,
    flat,
    groups,
    over_columns,
    pieces,
    read,
    store,
)


def backward(
    call: Call, q: Tensor, k: Tensor, v: Tensor, kept: Sequence[Tensor], grad_out: Tensor
) -> list[Tensor]:
    """Gradients of q, k, v and the weights."""
    grads = [torch.empty_like(x) for x in (q, k, v)]
    grad_weights = [torch.zeros_like(weight) for weight in call.weights]
    cut, size = groups(call, q, max(q.shape[2], k.shape[2]))
    size = max(size // 2, SHORTEST)  # more results are alive at once than forward
    each = len(kept) // len(cut)
    for index, (rows, heads) in enumerate(cut):
        sums = tuple(kept[index * each : (index + 1) * each])
        peak, sums = (None, sums) if call.core.floor is None else (sums[0], sums[1:])
        some, d_weights = call.of(heads), [total[heads] for total in grad_weights]
        parts = (x[rows, heads] for x in (q, k, v, grad_out, *grads))
        of_q, of_k, of_v, d_out, d_q, d_k, d_v = parts
        read_sums, back = _combined_with_pull(some, sums)
        d_read = _query_gradients(some, size, of_q, d_out, *read_sums, d_q, d_weights)
        _key_gradients(some, size, of_k, of_v, peak, back(d_read), d_k, d_v, d_weights)
    return [*grads, *grad_weights]


def _combined_with_pull(
    call: Call, sums: Sums
) -> tuple[tuple[Parts, Parts], Callable[[Sums], Sums]]:
    """Sums that queries read; and what takes the gradients of those to those of the sums."""
    if not call.core.combines:
        return combined(call, sums), lambda d_read: d_read
    with torch.enable_grad():
        leaves = tuple(x.detach().requires_grad_() for x in sums)
        contexts, key_sums = combined(call, leaves)

    def back(d_read: Sums) -> Sums:
        outputs = (*contexts, *key_sums)
        return torch.autograd.grad(
            outputs, leaves, d_read, allow_unused=True, materialize_grads=True
        )

    detached = [tuple(x.detach() for x in side) for side in (contexts, key_sums)]
    return (detached[0], detached[1]), back


def _query_gradients(
    call: Call,
    size: int,
    q: Tensor,
    grad_out: Tensor,
    contexts: Parts,
    key_sums: Parts,
    grad_q: Tensor,
    grad_weights: Sequence[Tensor],
) -> Sums:
    """Fill ``grad_q`` and add to ``grad_weights``; returns the gradients of S and z as read."""
    core = call.core
    d_contexts = [torch.zeros_like(context) for context in contexts]
    d_key_sums = [torch.zeros_like(z).transpose(1, 2).contiguous() for z in key_sums]
    for tokens in pieces(q.shape[2], size):
        phi, pull = linearised(core.phi_q, widen(q[:, :, tokens]), *call.inputs(tokens))
        turned = flat(call.turned(phi, tokens))
        g = widen(grad_out[:, :, tokens]).flatten(0, 1)
        if core.divides:
            divisor = call.normaliser(phi, key_sums)
            factor = divisor.reciprocal()
            g = g * over_columns(factor, g.shape[-1])
        for total, part in zip(d_contexts, turned, strict=True):
            add_product(total, part.transpose(1, 2), g)
        d_turned, dots = _through_contexts(
            g, contexts, turned, key_sums[0].shape[-1], divides=core.divides
        )
        d_phi = tuple(part.view(one.shape) for part, one in zip(d_turned, phi, strict=True))
        d_phi = call.turned(d_phi, tokens, back=True)
        if core.divides:
            c = torch.cat(dots, dim=-1).mul_(factor).neg_()
            if core.least:
                c.mul_(divisor > core.least)
            for part, key_sum in zip(flat(d_phi), key_sums, strict=True):
                add_product(part, c, key_sum.transpose(1, 2))
            for total, part in zip(d_key_sums, flat(phi), strict=True):
                add_product(total, c.transpose(1, 2), part)
        pull_back(pull, d_phi, grad_q[:, :, tokens], grad_weights)
    return (*d_contexts, *(total.transpose(1, 2) for total in d_key_sums))


def _through_contexts(
    g: Tensor, contexts: Parts, turned: Parts, num_groups: int, *, divides: bool
) -> tuple[Parts, list[Tensor]]:
    """Gradients of the rotated features; and g . phi S per group of columns, if any is divided."""
    d_turned: Parts = ()
    dots = []
    by_group = (x.tensor_split(num_groups, dim=-1) for x in (g, *contexts))
    for some, *of_contexts in zip(*by_group, strict=True):
        found = tuple(torch.bmm(some, context.transpose(1, 2)) for context in of_contexts)
        if divides:
            each = [(a * b).sum(dim=-1, keepdim=True) for a, b in zip(found, turned, strict=True)]
            dots.append(sum(each[1:], start=each[0]))
        if d_turned:
            found = tuple(a.add_(b) for a, b in zip(d_turned, found, strict=True))
        d_turned = found
    return d_turned, dots


def _key_gradients(
    call: Call,
    size: int,
    k: Tensor,
    v: Tensor,
    peak: Tensor | None,
    d_sums: Sums,
    grad_k: Tensor,
    grad_v: Tensor,
    grad_weights: Sequence[Tensor],
) -> None:
    """Fill ``grad_k`` and ``grad_v`` and add to ``grad_weights``."""
    core, half = call.core, len(d_sums) // 2
    d_contexts, d_key_sums = d_sums[:half], d_sums[half:]
    for tokens in pieces(k.shape[2], size):
        phi, pull = linearised(core.key_map, widen(k[:, :, tokens]), *call.inputs(tokens))
        if peak is not None:
            phi, pull = _below(peak, phi[0], pull, core.floor or 0.0)
        store(read(flat(call.turned(phi, tokens)), d_contexts), grad_v[:, :, tokens])
        values = widen(v[:, :, tokens]).flatten(0, 1)
        d_phi = tuple(
            torch.bmm(values, context.transpose(1, 2)).view(part.shape)
            for context, part in zip(d_contexts, phi, strict=True)
        )
        d_phi = call.turned(d_phi, tokens, back=True)
        if call.reads_key_sums:
            for part, d_key_sum in zip(flat(d_phi), d_key_sums, strict=True):
                part.add_(d_key_sum.transpose(1, 2))
        pull_back(pull, d_phi, grad_k[:, :, tokens], grad_weights)


def _below(peak: Tensor, exponents: Tensor, pull: Pullback, floor: float) -> tuple[Parts, Pullback]:
    """Features relative to the peak, and their derivative."""
    above = exp_(exponents - peak)
    return (above + floor if floor else above,), lambda d_phi: pull(d_phi.mul_(above))


def pull_back(pull: Pullback, d_phi: Parts, grad_x: Tensor, grad_weights: Sequence[Tensor]) -> None:
    """Fill ``grad_x`` and add to ``grad_weights``."""
    d_x, *found = pull(*d_phi)
    assert d_x is not None
    store(d_x, grad_x)
    for total, more in zip(grad_weights, found, strict=False):  # and places take none
        if more is not None:
            total.add_(more)
