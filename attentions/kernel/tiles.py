"""Kernel attention in which every query sees every key, tile by tile.

    S = sum_j phi(k_j) v_j^T,  z = sum_j phi(k_j),  out_i = phi(q_i) S / (phi(q_i) z + eps)

A rotation stands between features and S, and not between features and z. `tiles_back` has the
backward pass, for which S and z are kept.

A tile is some tokens of some heads of some batch rows, at most `TOKENS` in all: an operator's
result is then some 512 KiB, which the next operator finds in the cache.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ..maths.feature_maps import exp_
from ..maths.rotary import as_pairs
from ..precision import widen, within_float16
from .derivatives import Parts, features

TOKENS = 2048
"""Tokens of a tile, over its rows and heads; fewer of them have more than `_WIDE` features."""
_WIDE = 128
_MOST_PARTS = 4
"""Largest part that wide features make of a tile: operators on fewer tokens are mostly overhead."""
SHORTEST = 32
"""Tokens of a tile with very many joint heads."""

Sums: TypeAlias = tuple[Tensor, ...]
"""S of each part, (rows * heads, F, E), then z of each part, (rows * heads, F, 1)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Call:
    """A core, and what its formula takes besides queries, keys and values, of all or some heads.

    Attributes:
        core: a `KernelCore`, which is above this floor.
        num_keys: M.
        weights: learned tensors of its feature maps, (H, ...) each.
        places: its position features, tensors of one row per token, (N, ...).
        turn: unit complex numbers that rotate features, (1 or H, N, F / 2).
    """

    core: Any
    num_keys: int
    weights: Parts = ()
    places: Parts = ()
    turn: Tensor | None = None

    def of(self, heads: slice) -> Call:
        """The call of some of the heads."""
        turn = self.turn if self.turn is None or len(self.turn) == 1 else self.turn[heads]
        return replace(self, weights=tuple(each[heads] for each in self.weights), turn=turn)

    def inputs(self, tokens: slice) -> Parts:
        """Further arguments of the feature maps of these tokens."""
        return (*self.weights, *(place[tokens] for place in self.places))

    @property
    def reads_key_sums(self) -> bool:
        """Whether the sums of key features are looked at."""
        return self.core.divides or self.core.combines  # type: ignore[no-any-return]

    def turned(
        self, parts: Parts, tokens: slice, *, back: bool = False, in_place: bool = False
    ) -> Parts:
        """Features of some tokens, adjacent ones rotated; ``back`` as for their gradients."""
        if self.turn is None:
            return parts
        turn = self.turn[:, tokens].conj() if back else self.turn[:, tokens]
        pairs = map(as_pairs, parts)
        found = (pair.mul_(turn) if in_place else pair * turn for pair in pairs)
        return tuple(torch.view_as_real(pair).flatten(-2) for pair in found)

    def normaliser(self, phi: Parts, key_sums: Parts) -> Tensor:
        """Normaliser, (g, n, C), from features of (rows, heads, n, F)."""
        # As z^T phi^T: with a column on the right, a batched product is slow.
        rows = tuple(key_sum.transpose(1, 2) for key_sum in key_sums)
        total = read(rows, [part.transpose(1, 2) for part in flat(phi)]).transpose(1, 2)
        if self.core.eps:
            total.add_(self.core.eps * (self.num_keys if self.core.eps_on_mean else 1))
        return total.clamp_(min=self.core.least) if self.core.least else total


def over_columns(x: Tensor, width: int) -> Tensor:
    """Divisors of C groups of columns, (..., n, C), for each of ``width`` columns."""
    num_groups = x.shape[-1]
    if num_groups == 1:
        return x
    sizes = [len(range(group, width, num_groups)) for group in range(num_groups)]
    each = zip(x.split(1, dim=-1), sizes, strict=True)
    return torch.cat([one.expand(*x.shape[:-1], size) for one, size in each], dim=-1)


def groups(call: Call, x: Tensor, length: int) -> tuple[list[tuple[slice, slice]], int]:
    """Batch rows and heads that tiles are cut from, and how many tokens each tile has, at most.

    Args:
        call: its features may be many, or need all heads in a tile.
        x: (B, H, ...).
        length: of the longer of queries and keys.
    """
    wide = max(1, call.core.feature_dim // _WIDE)
    most = TOKENS // min(wide, _MOST_PARTS)
    num_rows, num_heads = x.shape[:2]
    heads = num_heads if call.core.joint_heads else max(1, min(num_heads, most // length))
    rows = max(1, most // (length * heads)) if heads == num_heads else 1
    both = itertools.product(pieces(num_rows, rows), pieces(num_heads, heads))
    return list(both), max(most // (rows * heads), SHORTEST)


def pieces(length: int, size: int) -> Iterator[slice]:
    """Tokens, rows or heads, ``size`` at a time."""
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def like(x: Tensor, width: int) -> Tensor:
    """Memory for (B, H, N, width), with heads and tokens in the order of x."""
    batch_size, num_heads, length = x.shape[:3]
    if x.stride(1) < x.stride(2):  # tokens first
        return x.new_empty(batch_size, length, num_heads, width).transpose(1, 2)
    return x.new_empty(batch_size, num_heads, length, width)


def store(value: Tensor, target: Tensor) -> None:
    """Write a wide tile where it belongs; float16 stops at its largest number."""
    if target.dtype == torch.float16:
        value = within_float16(value)
    target.copy_(value.view(target.shape))


def flat(parts: Parts) -> Parts:
    """(rows, heads, n, F) -> (rows * heads, n, F), for matrix products."""
    return tuple(part.flatten(0, 1) for part in parts)


def add_product(total: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
    """``total`` + A B, in place. Not by `baddbmm_`, which torch's counter of FLOPs skips."""
    return torch.bmm(a, b) if total is None else torch.baddbmm(total, a, b, out=total)


def read(parts: Parts, sums: Sequence[Tensor]) -> Tensor:
    """Phi S, added up over parts: (g, n, F), (g, F, E) -> (g, n, E)."""
    total = None
    for phi, one in zip(parts, sums, strict=True):
        total = add_product(total, phi, one)
    assert total is not None
    return total


def forward(call: Call, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The output; and the sums of each group, with the peak of its keys before them if any."""
    out = like(q, v.shape[-1])
    cut, size = groups(call, q, max(q.shape[2], k.shape[2]))
    kept: list[Tensor] = []
    for rows, heads in cut:
        queries, keys, values, outputs = (x[rows, heads] for x in (q, k, v, out))
        some = call.of(heads)
        sums, peak = _sum_keys(some, keys, values, size)
        kept += sums if peak is None else (peak, *sums)
        _read_queries(some, queries, *combined(some, sums), size, outputs)
    return out, tuple(kept)


def combined(call: Call, sums: Sums) -> tuple[Parts, Parts]:
    """Sums that queries read."""
    contexts, key_sums = sums[: len(sums) // 2], sums[len(sums) // 2 :]
    return call.core.combine(contexts, key_sums)  # type: ignore[no-any-return]


def _sum_keys(call: Call, k: Tensor, v: Tensor, size: int) -> tuple[Sums, Tensor | None]:
    """S and z, and the peak if the map of the keys has one."""
    core, peak = call.core, None
    sums: list[Tensor] = []
    for tokens in pieces(k.shape[2], size):
        phi = features(core.key_map, widen(k[:, :, tokens]), *call.inputs(tokens))
        if core.floor is not None:
            exponents, s = phi
            risen = s.amax(dim=-2, keepdim=True)
            if peak is not None:  # what came before was relative to a lower one
                risen = torch.maximum(peak, risen)
                fade = exp_(peak - risen).flatten(0, 1).transpose(1, 2)
                sums = [total.mul_(fade) for total in sums]
            peak, phi = risen, (exp_(exponents - risen),)
        values = widen(v[:, :, tokens]).flatten(0, 1)
        key_sums = [
            part.sum(dim=-2) if call.reads_key_sums else torch.zeros_like(part[..., 0, :])
            for part in phi
        ]
        key_sums = [total.flatten(0, 1).unsqueeze(-1) for total in key_sums]
        turned = flat(call.turned(phi, tokens, in_place=True))
        if sums:
            for total, part in zip(sums, turned, strict=False):
                add_product(total, part.transpose(1, 2), values)
            for total, more in zip(sums[len(turned) :], key_sums, strict=True):
                total.add_(more)
        else:
            sums = [torch.bmm(part.transpose(1, 2), values) for part in turned] + key_sums
    if core.floor:
        wide = v.sum(dim=2, keepdim=True, dtype=sums[0].dtype).flatten(0, 1)
        sums[0].add_(wide, alpha=core.floor)
        sums[1].add_(core.floor * call.num_keys)
    return tuple(sums), peak


def _read_queries(
    call: Call, q: Tensor, contexts: Parts, key_sums: Parts, size: int, out: Tensor
) -> None:
    """Fill ``out``."""
    for tokens in pieces(q.shape[2], size):
        phi = features(call.core.phi_q, widen(q[:, :, tokens]), *call.inputs(tokens))
        target = out[:, :, tokens]
        factor = None
        if call.core.divides:  # a product is faster than a division
            factor = over_columns(call.normaliser(phi, key_sums).reciprocal_(), out.shape[-1])
        found = read(flat(call.turned(phi, tokens, in_place=True)), contexts)
        if factor is not None and target.dtype == found.dtype:
            torch.mul(found.view(target.shape), factor.view(*target.shape[:3], -1), out=target)
        else:
            store(found if factor is None else found.mul_(factor), target)
