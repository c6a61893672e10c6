"""Feature maps as mechanisms write them, and what `attend` was asked for."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

Parts: TypeAlias = tuple[Tensor, ...]
Pull: TypeAlias = Callable[..., Parts | Tensor]
"""From the gradients of the parts, which it may overwrite, to those of x and of each weight."""
Gather: TypeAlias = Callable[[Parts, Parts], tuple[Parts, Parts]]


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """phi of one side: a plain function of some tokens, and perhaps its derivative by hand.

    Features may come in parts, whose products with the other side's parts add up to the weight of
    a pair: two parts side by side would be a copy.

    Attributes:
        phi: (..., n, D) and the weights -> (..., n, F), or a tuple of such parts. By
            differentiable operators, in the dtype of its input; for a rotation, fresh tensors.
        by_hand: the same arguments -> what ``phi`` returns, and a function from the gradients of
            the parts to the gradient of x, or to a tuple of those of x and of each weight. Without
            it, autograd finds the derivative, tile by tile.
        places: tensors of one row per token, (N, ...), the last arguments of both functions.
        floor: None, unless ``phi`` returns (e, s) and the features are 2^(e - peak) + floor, where
            ``peak`` is the maximum of s over all tokens; no gradient goes to it. For keys only.
        is_wide: whether a token has more than 128 features: tiles have half as many tokens then.
    """

    phi: Callable[..., Parts | Tensor]
    by_hand: Callable[..., tuple[Parts | Tensor, Pull]] | None = None
    places: Parts = ()
    floor: float | None = None
    is_wide: bool = False

    def __call__(self, x: Tensor, weights: Sequence[Tensor], tokens: slice) -> Parts:
        """What ``phi`` gives for these tokens, as a tuple."""
        return as_parts(self.phi(x, *weights, *self._at(tokens)))

    def linearised(
        self, x: Tensor, weights: Sequence[Tensor], tokens: slice
    ) -> tuple[Parts, Callable[..., Parts]]:
        """The same, and what takes the gradients of the parts to those of x and the weights."""
        if self.by_hand is not None:
            found, pull = self.by_hand(x, *weights, *self._at(tokens))
            return as_parts(found), lambda *grads: as_parts(pull(*grads))
        with torch.enable_grad():
            leaves = [leaf.detach().requires_grad_() for leaf in (x, *weights)]
            parts = self(leaves[0], leaves[1:], tokens)

        def by_autograd(*grads: Tensor) -> Parts:
            outputs = parts[: len(grads)]
            return torch.autograd.grad(
                outputs, leaves, grads, allow_unused=True, materialize_grads=True
            )

        return tuple(part.detach() for part in parts), by_autograd

    def _at(self, tokens: slice) -> Parts:
        return tuple(place[tokens] for place in self.places)


def as_parts(found: Parts | Tensor) -> Parts:
    """A single part as a tuple of one."""
    return found if isinstance(found, tuple) else (found,)


@dataclass(frozen=True, eq=False, kw_only=True)
class Call:
    """The arguments of `attend` that are not tensors to differentiate; it says what they mean."""

    queries: FeatureMap
    keys: FeatureMap
    eps: float | None
    mean: bool
    least: float
    turn: Tensor | None
    causal: bool
    joint_heads: bool
    gather: Gather | None
    columns: tuple[int, ...] | None

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
        """What divides: one number per group of columns, (..., n, C), repeated for each column."""
        if self.columns is None:
            return x
        each = zip(x.split(1, dim=-1), self.columns, strict=True)
        return torch.cat([one.expand(*x.shape[:-1], width) for one, width in each], dim=-1)

    def groups_of_columns(self) -> list[slice]:
        """The columns of each group."""
        if self.columns is None:
            return [slice(None)]
        ends = list(itertools.accumulate(self.columns))
        return [slice(a, b) for a, b in zip([0, *ends], ends, strict=False)]
