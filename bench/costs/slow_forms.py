"""Slow ways to compute what a mechanism computes, and the multiply-adds that each of them takes.

What is counted here is an algorithm that was run and whose output was that of the mechanism. So a
formula that says the same number is not only consistent: so much work does it, and no more is
needed. All of it at small shapes, in float64 where the mechanism takes that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bench.costs.multiply_adds import MultiplyAdds, count_multiply_adds
from bench.costs.sample import Sample

_WIDE, _NARROW = 1e-9, 1e-3
"""How close a slow form's output must come in float64, and in a narrower dtype."""
_GROUP = 8
"""So many keys are looked at in one call, which keeps that in the cache."""


@dataclass(frozen=True, kw_only=True)
class SlowForm:
    """One slow way.

    Attributes:
        name: in words, for a table.
        flops: two for each multiply-add that was counted.
        is_decisive: whether this is the algorithm that the formula must be about, so that another
            number is a wrong one.
    """

    name: str
    flops: int
    is_decisive: bool = False


@torch.no_grad()
def last_step(sample: Sample) -> Callable[[], object]:
    """The `step` for the last token, with a state that has seen all tokens before it."""
    mechanism, state = sample.mechanism, _empty_state(sample)
    if sample.shape.query_len > 1:
        _, state = mechanism.step(*_tokens(sample, slice(None, -1)), state)
    last = _tokens(sample, slice(-1, None))
    return lambda: mechanism.step(*last, state)


def readings(seen: MultiplyAdds, *, is_decisive: bool = False) -> list[SlowForm]:
    """A call itself as a slow form: all that was counted, and without factors that are zero."""
    counts = {
        "product by product": seen.products,
        "product by product, and sums": seen.products + seen.written_out,
        "product by product, no zeros": seen.nonzero,
    }
    return [
        SlowForm(name=name, flops=2 * count, is_decisive=is_decisive)
        for name, count in counts.items()
        if name == "product by product" or count != seen.products
    ]


@torch.no_grad()
def token_by_token(sample: Sample) -> list[SlowForm]:
    """One `step` for each token. Empty if the output is another.

    Decisive where every step takes as much, which makes it a recurrence; with a cache of all tokens
    a step may go another way than a whole sequence.
    """
    mechanism, state = sample.mechanism, _empty_state(sample)
    outputs: list[Tensor] = []

    def step(index: int) -> None:
        nonlocal state
        out, state = mechanism.step(*_tokens(sample, slice(index, index + 1)), state)
        outputs.append(out)

    counts = [
        count_multiply_adds(partial(step, index)) for index in range(sample.shape.query_len)
    ]  # fmt: skip
    if not _agree(torch.cat(outputs, dim=-2), mechanism(*sample.tensors)):
        return []
    products = sum(seen.products for seen in counts)
    written_out = sum(seen.written_out for seen in counts)
    totals = {"token by token": products, "token by token, and sums": products + written_out}
    is_recurrence = len({(seen.products, seen.written_out) for seen in counts}) == 1
    return [
        SlowForm(name=name, flops=2 * total, is_decisive=is_recurrence)
        for name, total in totals.items()
        if name == "token by token" or written_out
    ]


@torch.no_grad()
def query_by_query(sample: Sample) -> list[SlowForm]:
    """Each query alone, by the bidirectional form, with the keys that it may see.

    Decisive where that form goes pair by pair and, by its own formula, wastes nothing. Empty if the
    output is another.
    """
    causal = sample.mechanism
    one_way = sample.rebuild(replace(causal.geometry, causal=False))
    q, k, v = sample.tensors
    outputs: list[Tensor] = []
    counts = []
    for index in range(q.shape[-2]):
        seen = slice(0, index + 1)
        tensors = (q[:, :, index : index + 1], k[:, :, seen], v[:, :, seen])
        call = partial(lambda *t: outputs.append(one_way(*t)), *tensors)
        counts.append(count_multiply_adds(call))
    if not _agree(torch.cat(outputs, dim=-2), causal(*sample.tensors)):
        return []
    whole_call = count_multiply_adds(lambda: one_way(q, k, v)).products
    one_query = count_multiply_adds(lambda: one_way(q[:, :, :1], k, v)).products
    useful = one_way.flops(replace(sample.shape, causal=False))
    is_decisive = useful == 2 * whole_call == 2 * q.shape[-2] * one_query
    totals = {
        "query by query": sum(seen.products for seen in counts),
        "query by query, no zeros": sum(seen.nonzero for seen in counts),
    }
    return [
        SlowForm(name=name, flops=2 * total, is_decisive=is_decisive)
        for name, total in totals.items()
        if name == "query by query" or total != totals["query by query"]
    ]


@torch.no_grad()
def seen_pairs(sample: Sample) -> list[SlowForm]:
    """Softmax over the pairs that are seen to matter, counted one by one; of one head.

    A pair matters if the query's output changes with the key's value. Where it hangs on the data
    which pairs do, all that are visible have to be scored first. Empty if the output is not that of
    a softmax over the pairs that matter.
    """
    q, k, v = (x[:1] for x in sample.tensors)
    if q.shape[1] != 1 or k.shape[1] != 1:
        return []
    mechanism = sample.mechanism
    out = mechanism(q, k, v)
    allowed = _matters(mechanism, q, k, v)
    scores = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).masked_fill(~allowed, -torch.inf)
    by_hand = scores.softmax(dim=-1).nan_to_num(0.0) @ v
    if not _agree(by_hand, out):
        return []
    mixed = int(allowed.sum())
    keys = torch.arange(min(k.shape[-2], _GROUP))
    others = _changes(mechanism, q.flip(-2), k.flip(-2), v, keys)
    if torch.equal(others, allowed[:, keys].T):
        multiply_adds = mixed * (q.shape[-1] + v.shape[-1])
        return [SlowForm(name="pair by pair", flops=2 * multiply_adds, is_decisive=True)]
    scored = replace(sample.shape, batch_size=1).num_pairs
    multiply_adds = scored * q.shape[-1] + mixed * v.shape[-1]
    return [SlowForm(name="pair by pair, all scored", flops=2 * multiply_adds)]


def _matters(mechanism: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Whether the output of each query changes with the value of each key: (N, M)."""
    groups = torch.arange(k.shape[-2]).split(_GROUP)
    return torch.cat([_changes(mechanism, q, k, v, keys) for keys in groups]).T


def _changes(mechanism: Any, q: Tensor, k: Tensor, v: Tensor, keys: Tensor) -> Tensor:
    """The same for some keys, a sequence for each beside one that is left alone: (keys, N)."""
    count = len(keys)
    values = v.repeat(count + 1, 1, 1, 1)
    values[torch.arange(count), :, keys] += 1.0
    out = mechanism(*(x.expand(count + 1, -1, -1, -1) for x in (q, k)), values)
    difference: Tensor = out[:-1] - out[-1:]
    return difference.abs().amax(dim=(1, 3)) > 0


def _empty_state(sample: Sample) -> Any:
    first = sample.tensors[0]
    return sample.mechanism.init_state(first.shape[0], dtype=first.dtype, device=first.device)


def _tokens(sample: Sample, which: slice) -> tuple[Tensor, ...]:
    return tuple(x[..., which, :] for x in sample.tensors)


def _agree(ours: Tensor, theirs: Tensor) -> bool:
    tolerance = _WIDE if theirs.dtype is torch.float64 else _NARROW
    return ours.shape == theirs.shape and bool(
        (ours - theirs).abs().max() <= tolerance * theirs.abs().max()
    )
