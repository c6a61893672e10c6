"""The engine's two forward passes: over keys, then over queries.

    S = sum_j v_j phi(k_j)^T,  z = sum_j phi(k_j)
    out_i = S phi(q_i) / (z . phi(q_i) + eps)

A rotation stands between features and S, and not between features and z.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ._engine_kernel import Kernel, Reading, Sums
from ._engine_maps import Parts, PeakedMap
from ._engine_products import meet, meet_again, project, read
from ._engine_tally import Tally
from ._engine_tiles import Job, tokens_of, widened


def sum_keys(
    kernel: Kernel,
    job: Job,
    k: Tensor,
    v: Tensor,
    weights: Sequence[Tensor],
    kept: list[Tensor] | None = None,
) -> tuple[Sums, Tensor | None]:
    """The sums of a job's keys, (heads, ...), and their peak if the map has one.

    What `FeatureMap.linearised_from` takes is appended to ``kept``, and rotated features after it.
    """
    keys, values = job.of(k), job.of(v)
    mine = [weight[job.heads] for weight in weights]
    if isinstance(kernel.keys, PeakedMap):
        return _sum_peaked_keys(kernel.keys, job, keys, values, mine, kept)
    sums = None
    for tokens in job.tiles():
        parts = kernel.keys.features(widened(tokens_of(keys, tokens)), tokens, *mine)
        value = widened(tokens_of(values, tokens))
        key_sums = tuple(part.sum(dim=1).unsqueeze(-1) for part in parts)
        parts = _turned(kernel, job, tokens, parts, kept)
        if sums is None:
            sums = Sums(contexts=meet(value, parts), key_sums=key_sums)
            continue
        for total, more in zip(sums.key_sums, key_sums, strict=True):
            total.add_(more)
        meet_again(sums.contexts, value, parts)
    assert sums is not None
    return sums, None


def _sum_peaked_keys(
    keys_map: PeakedMap,
    job: Job,
    keys: Tensor,
    values: Tensor,
    weights: Sequence[Tensor],
    kept: list[Tensor] | None,
) -> tuple[Sums, Tensor]:
    sums = None
    peak = keys.new_full((1, 1, 1), -torch.inf, dtype=widened(keys[:, :0]).dtype)
    for tokens in job.tiles():
        key, value = widened(tokens_of(keys, tokens)), widened(tokens_of(values, tokens))
        base, risen = keys_map.rising(key, tokens, peak, *weights)
        if kept is not None:
            kept.append(base)
        key_sum = base.sum(dim=1).unsqueeze(-1)
        if sums is None:
            sums = Sums(contexts=meet(value, (base,)), key_sums=(key_sum,))
            value_sum = torch.zeros_like(sums.contexts[0][..., :1])
        else:
            fade = (peak - risen).exp_()  # (heads, 1, 1 or F)
            sums.contexts[0].mul_(fade)
            sums.key_sums[0].mul_(fade.transpose(1, 2)).add_(key_sum)
            meet_again(sums.contexts, value, (base,))
        if keys_map.floor:
            value_sum.add_(value.sum(dim=1).unsqueeze(-1))
        peak = risen
    assert sums is not None
    if keys_map.floor:
        sums.contexts[0].add_(value_sum, alpha=keys_map.floor)
        sums.key_sums[0].add_(keys_map.floor * keys.shape[1])
    return sums, peak


@dataclass(frozen=True)
class Output:
    """Where the engine writes.

    Attributes:
        tensor: (B, H, N, E).
        tally: of what is written.
        adds: whether what is there stays, and the output is added to it.
    """

    tensor: Tensor
    tally: Tally
    adds: bool = False


def read_queries(
    kernel: Kernel,
    job: Job,
    q: Tensor,
    readings: Sequence[Reading],
    weights: Sequence[Tensor],
    out: Output,
    kept: list[Tensor] | None = None,
) -> None:
    """Fill a job's part of the output from readings of its heads.

    As for `sum_keys`, features are appended to ``kept``.
    """
    queries, outputs = job.of(q), job.of(out.tensor)
    mine = [weight[job.heads] for weight in weights]
    lifts = [lift_of(kernel, reading.sums) for reading in readings]
    for tokens in job.tiles():
        parts = kernel.queries.features(widened(tokens_of(queries, tokens)), tokens, *mine)
        divisors = [
            normalisers(kernel, parts, reading.sums, lift)
            for reading, lift in zip(readings, lifts, strict=True)
        ]
        parts = _turned(kernel, job, tokens, parts, kept)
        for reading, lift, divisor in zip(readings, lifts, divisors, strict=True):
            target = tokens_of(outputs, tokens)[..., reading.columns]
            # The output's memory, in no cache yet, is fetched while the product is computed.
            numerator = read(parts, reading.sums.contexts, None if out.adds else target)
            if lift is not None:
                numerator.add_(lift.row)
            if divisor is not None:
                out.tally.add(divisor)  # of an infinite one, zeros would come out
            out.tally.add(_put(target, numerator, divisor, adds=out.adds))


def _put(target: Tensor, numerator: Tensor, divisor: Tensor | None, *, adds: bool) -> Tensor:
    """Write or add what is left after the division; the numerator may be the target itself.

    Returns:
        What was written, in float32 or wider.
    """
    if divisor is None:
        target.add_(numerator) if adds else target.copy_(numerator)
        return numerator
    factor = divisor.reciprocal_()
    if adds:
        return target.addcmul_(numerator, factor)
    if numerator.dtype == target.dtype:
        return torch.mul(numerator, factor, out=target)
    target.copy_(numerator.mul_(factor))
    return numerator


@dataclass(frozen=True)
class Lift:
    """What the floor of the queries' features adds.

    Attributes:
        row: to each numerator, (heads, 1, E).
        weight: to each normaliser, (heads, 1, 1).
    """

    row: Tensor
    weight: Tensor


def lift_of(kernel: Kernel, sums: Sums) -> Lift | None:
    """That of some heads; None without a floor."""
    floor = kernel.queries.floor
    if not floor:
        return None
    (context,), (key_sum,) = sums.contexts, sums.key_sums
    row = context.sum(dim=-1).mul_(floor).unsqueeze(1)
    return Lift(row, key_sum.sum(dim=1, keepdim=True).mul_(floor))


def normalisers(kernel: Kernel, parts: Parts, sums: Sums, lift: Lift | None) -> Tensor | None:
    """Z . phi(q) + eps, (heads, n, 1); None if nothing divides."""
    if kernel.eps is None:
        return None
    total = project(parts, sums.key_sums)
    if lift is not None:
        total.add_(lift.weight)
    return floored_(kernel, total.add_(kernel.eps) if kernel.eps else total)


def floored_(kernel: Kernel, normaliser: Tensor) -> Tensor:
    """No less than the floor, in place: a sum of weights that is zero divides a zero."""
    floor = _floor(kernel, normaliser)
    return normaliser if floor is None else normaliser.clamp_(min=floor)


def above_floor(kernel: Kernel, normaliser: Tensor) -> Tensor | None:
    """Where a normaliser depends on the weights, as 0 and 1; None if it does everywhere."""
    floor = _floor(kernel, normaliser)
    return None if floor is None else (normaliser > floor).to(normaliser.dtype)


def _floor(kernel: Kernel, like: Tensor) -> float | None:
    """The least normaliser; None if ``eps`` is above it, as no weight is negative."""
    floor = max(kernel.least, torch.finfo(like.dtype).tiny)
    return None if kernel.eps is not None and kernel.eps > floor else floor


def turn_of(turn: Tensor | None, job: Job, tokens: slice) -> Tensor | None:
    """That of a tile: (1, n, F / 2) or (heads, n, F / 2)."""
    if turn is None:
        return None
    return turn[job.heads if len(turn) > 1 else slice(None), tokens]


def _turned(
    kernel: Kernel, job: Job, tokens: slice, parts: Parts, kept: list[Tensor] | None
) -> Parts:
    """Rotated features: in place, unless both are kept."""
    turn = turn_of(kernel.turn, job, tokens)
    if kept is None:
        rotate_(parts, turn)
        return parts
    turned = rotated(parts, turn)
    kept.extend(parts if turn is None else parts + turned)
    return turned


def rotated(parts: Parts, turn: Tensor | None) -> Parts:
    """As `rotate_`, into fresh tensors."""
    if turn is None:
        return parts
    turned = (torch.view_as_complex(part.view(*part.shape[:-1], -1, 2)) * turn for part in parts)
    return tuple(torch.view_as_real(part).flatten(-2) for part in turned)


def rotate_(parts: Sequence[Tensor], turn: Tensor | None, *, back: bool = False) -> None:
    """Turn adjacent features of (heads, n, F) in place; ``back`` as for their gradients."""
    if turn is not None:
        turn = turn.conj() if back else turn
        for part in parts:
            torch.view_as_complex(part.view(*part.shape[:-1], -1, 2)).mul_(turn)
