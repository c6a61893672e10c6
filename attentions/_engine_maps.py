"""Feature maps as the engine takes them: a few heads and tokens at a time, with their derivatives.

A map gives its features in parts, each (heads, tokens, F), whose products with the other side's
parts add up to the weight of a pair. Parts are never put side by side: that would copy them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor

Parts: TypeAlias = tuple[Tensor, ...]
Pull: TypeAlias = Callable[[Parts], tuple[Tensor, ...]]
"""Takes the gradients of the parts, which it may write over, to those of x and of each weight."""


class FeatureMap(ABC):
    """phi of one side. Stateless; what is learned comes as ``weights``, (heads, 1, ...) each.

    Attributes:
        floor: a number that the engine adds to all features; those of `features` and `linearised`
            are without. What it adds to a product is a row, which takes no pass over the features.
            Of queries and of a `PeakedMap`, in a single part; with no turn, and not causal.
        keeps: whether there is a `linearised_from`.
        is_quiet: whether features may be infinite without the processor's noting it: exponentials
            of what may be large, see `_overflow`.
        copies_alive: how many times the memory of a tile's features is in use where gradients are
            pulled back, features and their gradients included, if that is much; else 0. See
            `_engine_memory.cushion`.
    """

    floor: float = 0.0
    keeps: ClassVar[bool] = False
    is_quiet: ClassVar[bool] = True
    copies_alive: ClassVar[int] = 0

    @abstractmethod
    def features(self, x: Tensor, tokens: slice, *weights: Tensor) -> Parts:
        """(heads, n, D) -> parts of (heads, n, F): fresh tensors, which the engine may overwrite.

        Args:
            x: in float32 or wider; must not be written to.
            tokens: which of the sequence's tokens these are.
            weights: those of the heads at hand.
        """

    def linearised(self, x: Tensor, tokens: slice, *weights: Tensor) -> tuple[Parts, Pull]:
        """The features and their pull-back; the parts will not be written to.

        Found by autograd here, for a map that writes none of its intermediate results over. Its
        own derivative, by hand, is faster.
        """
        with torch.enable_grad():
            leaves = [leaf.detach().requires_grad_() for leaf in (x, *weights)]
            parts = self.features(leaves[0], tokens, *leaves[1:])

        def pull(grads: Parts) -> tuple[Tensor, ...]:
            return torch.autograd.grad(
                parts, leaves, grads, allow_unused=True, materialize_grads=True
            )

        return tuple(part.detach() for part in parts), pull

    def linearised_from(
        self, x: Tensor, kept: Parts, tokens: slice, *weights: Tensor
    ) -> tuple[Parts, Pull]:
        """As `linearised`, from what `features` gave, or `PeakedMap.rising`; neither is written to.

        For a map whose features are most of the work that its derivative takes.
        """
        raise NotImplementedError


def where_above(x: Tensor, grad: Tensor) -> Tensor:
    """The gradient through relu(x): ``grad`` where x is above zero, and zero elsewhere."""
    passed: Tensor = torch.ops.aten.threshold_backward(grad, x, 0.0)
    return passed


class PeakedMap(FeatureMap):
    """Key features relative to their largest, which is known only when all keys have been seen.

        phi(k) = base(k) exp(-peak) + floor

    While keys are read, the peak so far is used, and the sums are scaled down as it rises.
    `features` and `linearised` get the final peak as their last weight; no gradient goes to it.
    """

    @abstractmethod
    def rising(
        self, x: Tensor, tokens: slice, peak: Tensor, *weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """base(k) exp(-peak'), one part, and peak', the larger of ``peak`` and x's own.

        Args:
            x: (heads, n, D).
            tokens: as for `features`.
            peak: (heads, 1, 1) or (heads, 1, F); minus infinity at first.
            weights: as for `features`.
        """
