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
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ..maths.feature_maps import exp_
from ..precision import HALF
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
    """A core, and what depends on the sizes of one call of it.

    Attributes:
        core: a `KernelCore`, which is above this floor.
        places: its position features, tensors of one row per token, (N, ...).
        turn: unit complex numbers that rotate features, (1 or H, N, F / 2).
        columns: widths of the groups of output columns that are divided by sums of their own.
    """

    core: Any
    places: Parts = ()
    turn: Tensor | None = None
    columns: tuple[int, ...] | None = None

    def at(self, tokens: slice) -> Parts:
        """Places of some tokens."""
        return tuple(place[tokens] for place in self.places)

    @property
    def reads_key_sums(self) -> bool:
        """Whether the sums of key features are looked at."""
        return self.core.divides or self.core.combines  # type: ignore[no-any-return]

    def turned(
        self,
        parts: Parts,
        heads: slice,
        tokens: slice,
        *,
        back: bool = False,
        in_place: bool = False,
    ) -> Parts:
        """Features with adjacent ones rotated; ``back`` as for their gradients."""
        if self.turn is None:
            return parts
        turn = self.turn[heads if len(self.turn) > 1 else slice(None), tokens]
        turn = turn.conj() if back else turn
        pairs = (torch.view_as_complex(torch.unflatten(part, -1, (-1, 2))) for part in parts)
        found = (pair.mul_(turn) if in_place else pair * turn for pair in pairs)
        return tuple(torch.view_as_real(pair).flatten(-2) for pair in found)

    def over_columns(self, x: Tensor) -> Tensor:
        """Divisors, one per group of columns, (..., n, C), repeated for each column."""
        if self.columns is None:
            return x
        each = zip(x.split(1, dim=-1), self.columns, strict=True)
        return torch.cat([one.expand(*x.shape[:-1], width) for one, width in each], dim=-1)

    def groups_of_columns(self) -> list[slice]:
        """Columns of each group."""
        if self.columns is None:
            return [slice(None)]
        ends = list(itertools.accumulate(self.columns))
        return [slice(a, b) for a, b in zip([0, *ends], ends, strict=False)]


def groups(call: Call, x: Tensor, length: int) -> tuple[list[Group], int]:
    """Rows and heads that tiles are cut from, and how many tokens each tile has, at most.

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
    both = [
        Group(slice(row, row + rows), slice(head, head + heads))
        for row in range(0, num_rows, rows)
        for head in range(0, num_heads, heads)
    ]
    return both, max(most // (rows * heads), SHORTEST)


@dataclass(frozen=True)
class Group:
    """Some batch rows and some of their heads."""

    rows: slice
    heads: slice

    def of(self, *tensors: Tensor) -> list[Tensor]:
        """Views of (B, H, ...)."""
        return [x[self.rows, self.heads] for x in tensors]

    def weights(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """Views of (H, ...)."""
        return [weight[self.heads] for weight in weights]


def pieces(length: int, size: int) -> Iterator[slice]:
    """Tokens, ``size`` at a time."""
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def widened(x: Tensor) -> Tensor:
    """Float32 for a tile of a half tensor."""
    return x.float() if x.dtype in HALF else x


def like(x: Tensor, width: int) -> Tensor:
    """Memory for (B, H, N, width), with heads and tokens in the order of x."""
    batch_size, num_heads, length = x.shape[:3]
    if x.stride(1) < x.stride(2):  # tokens first
        return x.new_empty(batch_size, length, num_heads, width).transpose(1, 2)
    return x.new_empty(batch_size, num_heads, length, width)


def store(value: Tensor, target: Tensor) -> None:
    """Write a wide tile where it belongs; float16 stops at its largest number."""
    if target.dtype == torch.float16:
        largest = torch.finfo(torch.float16).max
        value = value.clamp(-largest, largest)
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


def forward(
    call: Call, q: Tensor, k: Tensor, v: Tensor, weights: Sequence[Tensor]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The output; and the sums of each group, with the peak of its keys before them if any."""
    out = like(q, v.shape[-1])
    cut, size = groups(call, q, max(q.shape[2], k.shape[2]))
    kept: list[Tensor] = []
    for group in cut:
        tiles = Tiles(call, group, size, k.shape[2], group.weights(weights))
        queries, keys, values, outputs = group.of(q, k, v, out)
        sums, peak = tiles.sum_keys(keys, values)
        kept += sums if peak is None else (peak, *sums)
        tiles.read_queries(queries, *gathered(call, sums), outputs)
    return out, tuple(kept)


def gathered(call: Call, sums: Sums) -> tuple[Parts, Parts]:
    """Sums that queries read."""
    contexts, key_sums = sums[: len(sums) // 2], sums[len(sums) // 2 :]
    return call.core.combine(contexts, key_sums)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Tiles:
    """The tiles of one group, whose tensors are (rows, heads, ...)."""

    call: Call
    group: Group
    size: int
    num_keys: int
    weights: Sequence[Tensor]

    def features(self, phi: Any, x: Tensor, tokens: slice) -> Parts:
        """Features of some tokens of (rows, heads, N, D)."""
        return features(phi, widened(x[:, :, tokens]), *self.weights, *self.call.at(tokens))

    def sum_keys(self, k: Tensor, v: Tensor) -> tuple[Sums, Tensor | None]:
        """S and z, and the peak if the map of the keys has one."""
        sums: list[Tensor] = []
        peak = None
        for tokens in pieces(k.shape[2], self.size):
            phi = self.features(self.call.core.key_map, k, tokens)
            if self.call.core.floor is not None:
                exponents, s = phi
                risen = s.amax(dim=-2, keepdim=True)
                if peak is not None:  # what came before was relative to a lower one
                    risen = torch.maximum(peak, risen)
                    fade = exp_(peak - risen).flatten(0, 1).transpose(1, 2)
                    sums = [total.mul_(fade) for total in sums]
                peak, phi = risen, (exp_(exponents - risen),)
            values = widened(v[:, :, tokens]).flatten(0, 1)
            key_sums = [self._sum(part).flatten(0, 1).unsqueeze(-1) for part in phi]
            turned = flat(self._turned(phi, tokens, in_place=True))
            if sums:
                for total, part in zip(sums, turned, strict=False):
                    add_product(total, part.transpose(1, 2), values)
                for total, more in zip(sums[len(turned) :], key_sums, strict=True):
                    total.add_(more)
            else:
                sums = [torch.bmm(part.transpose(1, 2), values) for part in turned] + key_sums
        if self.call.core.floor:
            wide = v.sum(dim=2, keepdim=True, dtype=sums[0].dtype).flatten(0, 1)
            sums[0].add_(wide, alpha=self.call.core.floor)
            sums[1].add_(self.call.core.floor * self.num_keys)
        return tuple(sums), peak

    def _sum(self, phi: Tensor) -> Tensor:
        """Sum over tokens, which nothing looks at where nothing divides."""
        return phi.sum(dim=-2) if self.call.reads_key_sums else torch.zeros_like(phi[..., 0, :])

    def read_queries(self, q: Tensor, contexts: Parts, key_sums: Parts, out: Tensor) -> None:
        """Fill ``out``."""
        for tokens in pieces(q.shape[2], self.size):
            phi = self.features(self.call.core.phi_q, q, tokens)
            target = out[:, :, tokens]
            factor = None
            if self.call.core.divides:  # a product is faster than a division
                factor = self.call.over_columns(self._normaliser(phi, key_sums).reciprocal_())
            turned = flat(self._turned(phi, tokens, in_place=True))
            found = read(turned, contexts)
            if factor is not None and target.dtype == found.dtype:
                torch.mul(found.view(target.shape), factor.view(*target.shape[:3], -1), out=target)
            else:
                store(found if factor is None else found.mul_(factor), target)

    def _turned(
        self, parts: Parts, tokens: slice, *, back: bool = False, in_place: bool = False
    ) -> Parts:
        heads = self.group.heads
        return self.call.turned(parts, heads, tokens, back=back, in_place=in_place)

    def _normaliser(self, phi: Parts, key_sums: Sequence[Tensor]) -> Tensor:
        """Normaliser, (g, n, C)."""
        # As z^T phi^T: with a column on the right, a batched product is slow.
        rows = [key_sum.transpose(1, 2) for key_sum in key_sums]
        columns = [part.transpose(1, 2) for part in flat(phi)]
        total = read(tuple(rows), columns).transpose(1, 2)
        if self.call.core.eps:
            total.add_(self.call.core.eps * (self.num_keys if self.call.core.eps_on_mean else 1))
        return total.clamp_(min=self.call.core.least) if self.call.core.least else total
