"""Feature maps of one call, and what tiles and the plain formula ask of a core."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from ..geometry import Geometry
from .derivatives import Parts, derivative_of

Combine: TypeAlias = Callable[[Parts, Parts], tuple[Parts, Parts]]


class Formula(Protocol):
    """Attributes of a core that tiles read; `KernelCore` says what they mean."""

    eps: float
    divides: bool
    eps_on_mean: bool
    least: float
    floor: float | None
    joint_heads: bool
    feature_dim: int
    geometry: Geometry

    def pairs(self, q: Tensor, k: Tensor) -> Tensor | None:
        """phi(q) . phi(k) without features, if there is a way."""


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """Features of some tokens of queries or of keys, and their derivative.

    Attributes:
        phi: method of a core: (..., n, D), weights, places -> parts of (..., n, F).
        places: tensors of one row per token, (N, ...).
    """

    phi: Callable[..., Parts | Tensor]
    places: Parts = ()

    def plain(self, x: Tensor, weights: Sequence[Tensor], tokens: slice | None = None) -> Parts:
        """Features as the mechanism's file has them; of the first tokens unless told."""
        tokens = slice(x.shape[-2]) if tokens is None else tokens
        return as_parts(self.phi(x, *weights, *self._at(tokens)))

    def of(self, x: Tensor, weights: Sequence[Tensor], tokens: slice) -> Parts:
        """Features of these tokens, without a derivative."""
        by_hand = derivative_of(self.phi)
        if by_hand is not None:
            return by_hand(x, *weights, *self._at(tokens))[0]
        return as_parts(self.phi(x, *weights, *self._at(tokens)))

    def linearised(
        self, x: Tensor, weights: Sequence[Tensor], tokens: slice
    ) -> tuple[Parts, Callable[..., Sequence[Tensor | None]]]:
        """Features and their pullback: gradients of the parts -> those of x and of each weight.

        The pullback may overwrite what it is given. A weight that takes no gradient has None.
        """
        by_hand = derivative_of(self.phi)
        if by_hand is not None:
            return by_hand(x, *weights, *self._at(tokens))
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            learned = [w.detach().requires_grad_(w.requires_grad) for w in weights]
            parts = as_parts(self.phi(leaf, *learned, *self._at(tokens)))
        pullback = functools.partial(_by_autograd, parts, leaf, learned)
        return tuple(part.detach() for part in parts), pullback

    def _at(self, tokens: slice) -> Parts:
        return tuple(place[tokens] for place in self.places)


def _by_autograd(
    parts: Parts, x: Tensor, weights: Sequence[Tensor], *grads: Tensor
) -> Sequence[Tensor | None]:
    wanted = [x, *(weight for weight in weights if weight.requires_grad)]
    found = iter(
        torch.autograd.grad(
            parts[: len(grads)], wanted, grads, allow_unused=True, materialize_grads=True
        )
    )
    return [next(found), *(next(found) if weight.requires_grad else None for weight in weights)]


def as_parts(found: Parts | Tensor) -> Parts:
    """A single part as a tuple of one."""
    return found if isinstance(found, tuple) else (found,)


@dataclass(frozen=True, eq=False, kw_only=True)
class Call:
    """A core's feature maps for one call, and what depends on the call's sizes.

    Attributes:
        core: the formula.
        queries: feature map of the queries.
        keys: feature map of the keys.
        turn: unit complex numbers that rotate features, (1 or H, N, F / 2).
        combine: of the core, if it has one.
        columns: widths of the groups of output columns that are divided by sums of their own.
    """

    core: Formula
    queries: FeatureMap
    keys: FeatureMap
    turn: Tensor | None = None
    combine: Combine | None = None
    columns: tuple[int, ...] | None = None

    @property
    def reads_key_sums(self) -> bool:
        """Whether the sums of key features are looked at."""
        return self.core.divides or self.combine is not None

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
