"""The engine's two backward passes: over queries, then over keys.

Features are computed once more: of the forward passes only the sums are kept, except where all is
a single tile, and the maps have a use for features (see `_engine_bidirectional`). With
g_i = dout_i / normaliser_i and c_i = -(g_i . S phi(q_i)) / normaliser_i,

    queries:  dphi(q_i) = S^T g_i + c_i z,  dS = sum_i g_i phi(q_i)^T,  dz = sum_i c_i phi(q_i)
    keys:     dphi(k_j) = dS^T v_j + dz,    dv_j = dS phi(k_j)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ._engine_forward import above_floor, lift_of, normalisers, rotate_, rotated, turn_of
from ._engine_kernel import Kernel, Reading, Sums
from ._engine_maps import FeatureMap, Parts, Pull
from ._engine_products import backproject, meet, meet_again, project, read, spread
from ._engine_tally import Tally
from ._engine_tiles import Job, store, tokens_of, widened


def query_gradients(
    kernel: Kernel,
    job: Job,
    q: Tensor,
    readings: Sequence[Reading],
    weights: Sequence[Tensor],
    features: Sequence[Tensor],
    grad_out: Tensor,
    grad_q: Tensor,
    tally: Tally,
) -> tuple[list[Sums], list[Tensor]]:
    """Fill a job's part of ``grad_q``; returns the gradients of the sums read and of weights.

    ``readings`` are those of the job's heads. The gradients of q and weights go into the tally.
    """
    queries, d_outputs, d_queries = job.of(q), job.of(grad_out), job.of(grad_q)
    mine = [weight[job.heads] for weight in weights]
    floor = kernel.queries.floor
    lifts = [lift_of(kernel, reading.sums) for reading in readings]
    d_local: list[Sums] = []
    d_weights = [torch.zeros_like(weight) for weight in mine]
    for tokens in job.tiles():
        d_out = widened(tokens_of(d_outputs, tokens))
        query = widened(tokens_of(queries, tokens))
        parts, turned, pull = _linearised(
            kernel, kernel.queries, query, job, tokens, mine, features
        )
        d_parts: list[Tensor] = []
        shares: list[Tensor | None] = []  # c, of each reading
        found = []  # dS, of each reading's contexts
        for index, (reading, lift) in enumerate(zip(readings, lifts, strict=True)):
            g = d_out[..., reading.columns]
            divisor = normalisers(kernel, parts, reading.sums, lift)
            if divisor is not None:
                moves = above_floor(kernel, divisor)
                divisor.reciprocal_()
                g = g * divisor
            if d_local:
                meet_again(d_local[index].contexts, g, turned)
            else:
                found.append(meet(g, turned))
            if floor:
                d_context = d_local[index].contexts[0] if d_local else found[index][0]
                d_context.add_(g.sum(dim=1).unsqueeze(-1), alpha=floor)
            d_read = [spread(g, context) for context in reading.sums.contexts]
            share = None
            if divisor is not None:
                share = _dot(d_read, turned)
                if lift is not None:
                    share.add_(project((g,), (lift.row.transpose(1, 2),)))
                share.mul_(divisor).neg_()
                if moves is not None:
                    share.mul_(moves)
            shares.append(share)
            d_parts = (
                [a.add_(b) for a, b in zip(d_parts, d_read, strict=True)] if d_parts else d_read
            )
        rotate_(d_parts, turn_of(kernel.turn, job, tokens), back=True)
        d_key_sums = [
            _through_normaliser(reading.sums, parts, share, d_parts, floor)
            for reading, share in zip(readings, shares, strict=True)
        ]
        if d_local:
            for d_sums, more in zip(d_local, d_key_sums, strict=True):
                for total, one in zip(d_sums.key_sums, more, strict=True):
                    total.add_(one)
        else:
            both = zip(found, d_key_sums, strict=True)
            d_local = [Sums(contexts=contexts, key_sums=sums) for contexts, sums in both]
        _pull_back(pull, d_parts, tokens_of(d_queries, tokens), d_weights, tally)
    return d_local, d_weights


def _through_normaliser(
    sums: Sums, parts: Parts, share: Tensor | None, d_parts: Sequence[Tensor], floor: float
) -> tuple[Tensor, ...]:
    """Add c z to the gradients of the features; returns dz. Nothing and zeros, if none divides."""
    if share is None:
        return tuple(torch.zeros_like(key_sum) for key_sum in sums.key_sums)
    for d_part, key_sum in zip(d_parts, sums.key_sums, strict=True):
        d_part.addcmul_(share, key_sum.transpose(1, 2))
    found = tuple(backproject(part, share) for part in parts)
    if floor:
        found[0].add_(share.sum(dim=1, keepdim=True), alpha=floor)
    return found


def key_gradients(
    kernel: Kernel,
    job: Job,
    k: Tensor,
    v: Tensor,
    peak: Tensor | None,
    d_sums: Sums,
    weights: Sequence[Tensor],
    features: Sequence[Tensor],
    grad_k: Tensor,
    grad_v: Tensor,
    tally: Tally,
) -> list[Tensor]:
    """Fill a job's part of ``grad_k`` and ``grad_v``; returns the gradients of the weights.

    ``d_sums`` are those of the job's heads. All gradients go into the tally.
    """
    keys, values, d_keys, d_values = (job.of(x) for x in (k, v, grad_k, grad_v))
    mine = [weight[job.heads] for weight in weights]
    peaks = [] if peak is None else [peak[job.row, job.heads]]
    d_weights = [torch.zeros_like(weight) for weight in mine]
    row = None
    if kernel.keys.floor:
        (d_context,) = d_sums.contexts
        row = d_context.sum(dim=-1).mul_(kernel.keys.floor).unsqueeze(1)
    for tokens in job.tiles():
        value = widened(tokens_of(values, tokens))
        key = widened(tokens_of(keys, tokens))
        _, turned, pull = _linearised(
            kernel, kernel.keys, key, job, tokens, [*mine, *peaks], features
        )
        d_value = tokens_of(d_values, tokens)
        found = read(turned, d_sums.contexts, d_value)
        if row is not None:
            found.add_(row)
        tally.add(found)
        if found is not d_value:
            store(found, d_value)
        d_parts = [spread(value, context) for context in d_sums.contexts]
        rotate_(d_parts, turn_of(kernel.turn, job, tokens), back=True)
        for d_part, d_key_sum in zip(d_parts, d_sums.key_sums, strict=True):
            d_part.add_(d_key_sum.transpose(1, 2))
        _pull_back(pull, d_parts, tokens_of(d_keys, tokens), d_weights, tally)
    return d_weights


def _linearised(
    kernel: Kernel,
    feature_map: FeatureMap,
    x: Tensor,
    job: Job,
    tokens: slice,
    weights: Sequence[Tensor],
    features: Sequence[Tensor],
) -> tuple[Parts, Parts, Pull]:
    """Features, the same rotated, and their pull-back.

    From ``features``, of all heads, where they were kept.
    """
    if not features:
        parts, pull = feature_map.linearised(x, tokens, *weights)
        return parts, rotated(parts, turn_of(kernel.turn, job, tokens)), pull
    kept = tuple(tokens_of(job.of(part), tokens) for part in features)
    num_parts = len(kept) if kernel.turn is None else len(kept) // 2
    parts, pull = feature_map.linearised_from(x, kept[:num_parts], tokens, *weights)
    return parts, kept[-num_parts:], pull


def _pull_back(
    pull: Pull, d_parts: Sequence[Tensor], target: Tensor, d_weights: list[Tensor], tally: Tally
) -> None:
    """From gradients of the parts to those of the tile and of the weights."""
    d_x, *d_w = pull(tuple(d_parts))
    tally.add(d_x)
    store(d_x, target)
    for total, more in zip(d_weights, d_w, strict=False):
        tally.add(more)
        total.add_(more)


def _dot(parts: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
    """Row by row, summed over parts: (heads, n, F) twice -> (heads, n, 1)."""
    sums = [(a * b).sum(dim=-1, keepdim=True) for a, b in zip(parts, others, strict=True)]
    total = sums[0]
    for more in sums[1:]:
        total.add_(more)
    return total
