"""What a mechanism gives the engine, and what keys leave behind for queries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from ._engine_maps import FeatureMap

_COPIES_ALIVE = {"forward": 5, "backward": 8}
"""What passes were found to have in use, as multiples of a tile's features, rounded up."""


@dataclass(frozen=True, kw_only=True)
class Sums:
    """Over keys, a tensor per part of the features; ``...`` is (B, H) or some heads.

    Attributes:
        contexts: sum of v phi(k)^T, (..., E, F).
        key_sums: sum of phi(k), (..., F, 1).
    """

    contexts: tuple[Tensor, ...]
    key_sums: tuple[Tensor, ...]

    def tensors(self) -> tuple[Tensor, ...]:
        """All of them, contexts first."""
        return self.contexts + self.key_sums

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> Sums:
        """The inverse of `tensors`."""
        half = len(tensors) // 2
        return cls(contexts=tuple(tensors[:half]), key_sums=tuple(tensors[half:]))

    def detached(self) -> Sums:
        """Without their history."""
        return Sums.of([x.detach() for x in self.tensors()])

    def at(self, *index: int | slice) -> Sums:
        """Some rows and heads, as views."""
        return Sums.of([x[index] for x in self.tensors()])


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Some columns of the output, and the sums that they are read from.

    Attributes:
        columns: of the values and the output.
        sums: with contexts for these columns.
    """

    columns: slice
    sums: Sums

    def at(self, *index: int | slice) -> Reading:
        """Some rows and heads, as views."""
        return Reading(columns=self.columns, sums=self.sums.at(*index))


def read_plainly(sums: Sums) -> tuple[Reading, ...]:
    """All columns, from the sums as they are."""
    return (Reading(columns=slice(None), sums=sums),)


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """Kernel attention with these features.

    Attributes:
        queries: feature map of the queries.
        keys: feature map of the keys.
        num_features: of a token and head, over all parts.
        eps: added to the sum of weights; None for no division by it.
        least: what divides is this at least.
        turn: unit complex numbers that rotate adjacent features in the numerator, (1, N, F / 2) for
            parts of F features, or (H, N, F / 2) if heads turn apart.
        joint_heads: heads whose features depend on each other; a map gets all of them at once.
        gather: from the keys' sums to what queries read. Differentiated by autograd.
        causal: query i reads keys 0..i. Not with a turn, peaks, joint heads or a gather.
    """

    queries: FeatureMap
    keys: FeatureMap
    num_features: int
    eps: float | None = None
    least: float = 0.0
    turn: Tensor | None = None
    joint_heads: int = 1
    gather: Callable[[Sums], tuple[Reading, ...]] = read_plainly
    causal: bool = False

    @property
    def keeps(self) -> bool:
        """Whether kept features are of use for both maps, and few operators make them.

        Not with joint heads: more of these than a tile has room for cut it at its tokens.
        """
        return self.queries.keeps and self.keys.keeps and self.joint_heads == 1

    @property
    def is_quiet(self) -> bool:
        """Whether one of the maps may overflow without the processor's noting it."""
        return self.queries.is_quiet or self.keys.is_quiet

    def num_alive(self, *, backward: bool, is_long: bool) -> int:
        """Numbers in use at once for a token and head, or some more; 0 if they are few.

        Args:
            backward: whether gradients are pulled back.
            is_long: whether outputs are so large that few others are many, see `is_never_kept`.
        """
        copies = max(self.queries.copies_alive, self.keys.copies_alive) if backward else 0
        if is_long:
            copies = max(copies, _COPIES_ALIVE["backward" if backward else "forward"])
        return self.num_features * copies
