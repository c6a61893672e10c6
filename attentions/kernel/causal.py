"""Causal kernel attention: query i sees the past and then keys 0..i.

Tokens are cut into chunks. Within a chunk the weights of pairs are written out and the later ones
set to zero; earlier chunks come in by their running sums S and z.

    A = tril(phi_q phi_k^T),  sums = A V + phi_q S,  totals = A 1 + phi_q z

`causal_sums` is this by differentiable operators, for any device and compiler. Tiles use it too,
and have their derivative here: the sums before each tile are kept, and tiles are gone through from
the last to the first, with running sums dS and dz of what later queries send back. With
n = max(totals + eps, least), g = dout / n and c = -(out . g), row by row,

    dA = tril(g V^T + c),  dphi_q = dA phi_k + g S^T + c z^T
    dphi_k = dA^T phi_q + V dS^T + dz^T,  dV = A^T g + phi_k dS
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ..geometry import CallShape
from ..precision import widen
from .derivatives import Parts, features, linearised
from .tiles import Call, add_product, groups, like, store
from .tiles_back import pull_back

CHUNK = 64
"""Tokens whose pairs are written out: as many as D, where pairs and sums cost the same."""

Past: TypeAlias = tuple[Tensor, Tensor | None]
"""S, (..., F, E), and z, (..., F); no z where nothing divides."""


def chunked(length: int, size: int) -> list[slice]:
    """Whole chunks, ``size`` tokens or fewer, and at the end what fills no chunk."""
    whole, size = length // CHUNK * CHUNK, max(CHUNK, size // CHUNK * CHUNK)
    tiles = [slice(start, min(start + size, whole)) for start in range(0, whole, size)]
    return tiles + ([slice(whole, length)] if whole < length else [])


def causal_sums(
    phi_q: Tensor,
    phi_k: Tensor,
    v: Tensor,
    past: Past,
    pairs: Callable[[], Tensor] | None = None,
) -> tuple[Tensor, Tensor | None, Past]:
    """Sums over the past and over the keys up to each query's own.

    Args:
        phi_q: (..., n, F), where n is a multiple of `CHUNK`, or less than it.
        phi_k: (..., n, F).
        v: (..., n, E).
        past: S and z of all earlier tokens.
        pairs: finds phi_q phi_k^T within each chunk, (..., chunks, size, size), where features are
            not the cheapest way; it may be overwritten.

    Returns:
        The sums, (..., n, E); the sums of weights, (..., n, 1), unless there is no z; and S and z
        after the last token.
    """
    queries, keys, values = (in_chunks(x) for x in (phi_q, phi_k, v))
    within = (pairs() if pairs else queries @ keys.transpose(-2, -1)).tril()
    before, context = running_sums(keys.transpose(-2, -1) @ values, past[0], -3)
    sums = (within @ values + queries @ before).flatten(-3, -2)
    if past[1] is None:
        return sums, None, (context, None)
    before, key_sum = running_sums(keys.sum(dim=-2), past[1], -2)
    totals = within.sum(dim=-1) + (queries * before.unsqueeze(-2)).sum(dim=-1)
    return sums, totals.flatten(-2).unsqueeze(-1), (context, key_sum)


def in_chunks(x: Tensor) -> Tensor:
    """(..., n, F) -> (..., chunks, size, F)."""
    return torch.unflatten(x, -2, (-1, CHUNK if x.shape[-2] % CHUNK == 0 else x.shape[-2]))


def running_sums(
    each: Tensor, past: Tensor, dim: int, *, back: bool = False
) -> tuple[Tensor, Tensor]:
    """For each chunk ``past`` plus the chunks before it, or after it; and ``past`` plus all.

    Subtracting a chunk from an inclusive sum would leave its rounding behind: the past would then
    depend on the future's bits.
    """
    terms, sums = each.unbind(dim), [past]
    for term in reversed(terms) if back else terms:
        sums.append(sums[-1] + term)
    *before, after = sums
    return torch.stack(before[::-1] if back else before, dim=dim), after


def no_past(phi: Tensor, v: Tensor, *, divides: bool) -> Past:
    """S and z of no tokens."""
    context = phi.new_zeros(*phi.shape[:-2], phi.shape[-1], v.shape[-1])
    return context, phi.new_zeros(*phi.shape[:-2], phi.shape[-1]) if divides else None


def divisor(core: Any, totals: Tensor | None) -> Tensor | None:
    """N from the sums of weights."""
    if totals is None:
        return None
    total: Tensor = totals + core.eps
    return total.clamp(min=core.least) if core.least else total


def forward(call: Call, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The output; and S and z before each tile of each group."""
    out = like(q, v.shape[-1])
    kept: list[Tensor] = []
    cut, size = groups(call, q, q.shape[2])
    for rows, heads in cut:
        some, past = call.of(heads), None
        of_q, of_k, of_v, of_out = (x[rows, heads] for x in (q, k, v, out))
        for tokens in chunked(q.shape[2], size):
            x_q, x_k, x_v = (widen(x[:, :, tokens]) for x in (of_q, of_k, of_v))
            phi_q = _joined(features(call.core.phi_q, x_q, *some.inputs(tokens)))
            phi_k = _joined(features(call.core.key_map, x_k, *some.inputs(tokens)))
            values = x_v.flatten(0, 1)
            past = past or no_past(phi_k, values, divides=call.core.divides)
            kept += [x for x in past if x is not None]
            pairs = cheap_pairs(call.core, x_q.flatten(0, 1), x_k.flatten(0, 1))
            sums, totals, past = causal_sums(phi_q, phi_k, values, past, pairs)
            n = divisor(call.core, totals)
            store(sums if n is None else sums.mul_(n.reciprocal_()), of_out[:, :, tokens])
    return out, tuple(kept)


def cheap_pairs(core: Any, q: Tensor, k: Tensor) -> Callable[[], Tensor] | None:
    """phi(q) . phi(k) of pairs within chunks without features, if the core has a way."""
    found = core.pairs(in_chunks(q), in_chunks(k))
    return None if found is None else lambda: found


def backward(
    call: Call, q: Tensor, k: Tensor, v: Tensor, kept: Sequence[Tensor], grad_out: Tensor
) -> list[Tensor]:
    """Gradients of q, k, v and the weights."""
    grads = [torch.empty_like(x) for x in (q, k, v)]
    grad_weights = [torch.zeros_like(weight) for weight in call.weights]
    cut, size = groups(call, q, q.shape[2])
    tiles = [(*group, tokens) for group in cut for tokens in chunked(q.shape[2], size)]
    each = len(kept) // len(tiles)
    future: Past | None = None
    for number, (rows, heads, tokens) in reversed(list(enumerate(tiles))):
        some, d_weights = call.of(heads), [total[heads] for total in grad_weights]
        parts = (x[rows, heads, tokens] for x in (q, k, v, grad_out, *grads))
        of_q, of_k, of_v, d_out, d_q, d_k, d_v = parts
        phi_q, pull_q = linearised(call.core.phi_q, widen(of_q), *some.inputs(tokens))
        phi_k, pull_k = linearised(call.core.key_map, widen(of_k), *some.inputs(tokens))
        context, *key_sum = kept[each * number : each * (number + 1)]
        past = (context, key_sum[0] if key_sum else None)
        joined = (_joined(phi_q), _joined(phi_k), widen(of_v).flatten(0, 1))
        if tokens.stop == q.shape[2]:  # nothing comes later
            future = no_past(joined[1], joined[2], divides=past[1] is not None)
        assert future is not None
        g = widen(d_out).flatten(0, 1)
        d_phi_q, d_phi_k, d_values, future = _gradients(call.core, *joined, past, g, future)
        store(d_values, d_v)
        for pull, d_phi, phi, target in (
            (pull_q, d_phi_q, phi_q, d_q),
            (pull_k, d_phi_k, phi_k, d_k),
        ):
            shaped = d_phi.view(*phi[0].shape[:3], -1)
            pull_back(pull, shaped.split([part.shape[-1] for part in phi], -1), target, d_weights)
    return [*grads, *grad_weights]


def _gradients(
    core: Any,
    phi_q: Tensor,
    phi_k: Tensor,
    v: Tensor,
    past: Past,
    d_out: Tensor,
    future: Past,
) -> tuple[Tensor, Tensor, Tensor, Past]:
    """Gradients of a tile's query features, key features and values; and dS and dz before it."""
    queries, keys, values, g = (in_chunks(x).flatten(0, 1) for x in (phi_q, phi_k, v, d_out))

    def over_chunks(each: Tensor, start: Tensor, dim: int, *, back: bool) -> tuple[Tensor, Tensor]:
        chunks = torch.unflatten(each, 0, (len(phi_q), -1))
        found, end = running_sums(chunks, start, dim, back=back)
        return found.flatten(0, 1), end

    pairs = torch.bmm(queries, keys.transpose(1, 2)).tril_()
    context, _ = over_chunks(torch.bmm(keys.transpose(1, 2), values), past[0], -3, back=False)
    n = key_sum = None
    if past[1] is not None:
        key_sum = over_chunks(keys.sum(dim=1), past[1], -2, back=False)[0].unsqueeze(1)
        totals = pairs.sum(dim=-1, keepdim=True)
        totals.add_((queries * key_sum).sum(dim=-1, keepdim=True))
        n = divisor(core, totals)
    g = g if n is None else g * n.reciprocal()
    d_pairs, d_phi_q = torch.bmm(g, values.transpose(1, 2)), torch.bmm(g, context.transpose(1, 2))
    c = None
    if n is not None and key_sum is not None:
        c = (pairs * d_pairs).sum(dim=-1, keepdim=True)
        c.add_((queries * d_phi_q).sum(dim=-1, keepdim=True)).div_(n).neg_()
        if core.least:
            c.mul_(n > core.least)
        d_pairs.add_(c)
        d_phi_q.addcmul_(c, key_sum)
    d_pairs.tril_()
    add_product(d_phi_q, d_pairs, keys)

    own = torch.bmm(queries.transpose(1, 2), g)
    d_context, earlier = over_chunks(own, future[0], -3, back=True)
    d_v = torch.bmm(pairs.transpose(1, 2), g)
    add_product(d_v, keys, d_context)
    d_phi_k = torch.bmm(d_pairs.transpose(1, 2), queries)
    add_product(d_phi_k, values, d_context.transpose(1, 2))
    earlier_sum = None
    if c is not None and future[1] is not None:
        d_key_sum, earlier_sum = over_chunks((queries * c).sum(dim=1), future[1], -2, back=True)
        d_phi_k.add_(d_key_sum.unsqueeze(1))
    return d_phi_q, d_phi_k, d_v, (earlier, earlier_sum)


def _joined(parts: Parts) -> Tensor:
    """Parts side by side: half as many products of a small chunk cost less than the copy."""
    joined = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
    return joined.flatten(0, 1)


def causal_flops(shape: CallShape, num_features: int, pair_dim: int) -> int:
    """FLOPs of the forward pass: whole chunks, with the hidden pairs within them.

    Args:
        shape: of the call.
        num_features: F.
        pair_dim: numbers that the weight of a pair within a chunk is found from, F unless `pairs`.
    """
    whole_chunks, rest = divmod(shape.query_len, CHUNK)
    pairs = shape.batch_size * shape.num_heads * (whole_chunks * CHUNK**2 + rest**2)
    within = 2 * pairs * (pair_dim + shape.value_dim)
    return within + 4 * shape.num_tokens * num_features * shape.value_dim
