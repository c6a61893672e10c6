"""Is all that the engine writes finite? Asked of the processor, or of tiles that a cache holds."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

from torch import Tensor

from ._overflow import bring_back, has_notes, is_noted, set_aside

J = TypeVar("J")
R = TypeVar("R")


class Tally:
    """What was seen of one pass.

    Where a job runs in a single thread of torch's, and nothing in it overflows quietly, the
    processor's own notes are enough. Else each tile is summed up: one that holds what is not finite
    has no finite sum. Both err towards no.

    Args:
        is_quiet: whether something may overflow without a note, see `_overflow`.
    """

    def __init__(self, *, is_quiet: bool) -> None:
        self._is_quiet = is_quiet
        self._seen: list[Tensor | bool] = []  # by several threads: a number would lose some

    def add(self, tile: Tensor) -> None:
        """Take a tile in, in float32 or wider, of what a job writes."""
        if self._is_quiet or not has_notes():
            self._seen.append(tile.sum())

    def of(self, task: Callable[[J], R]) -> Callable[[J], R]:
        """The task of a job, between two looks at the processor's notes."""

        def noting(job: J) -> R:
            if self._is_quiet or not has_notes():
                return task(job)
            aside = set_aside()
            result = task(job)
            self._seen.append(not is_noted())
            bring_back(aside)
            return result

        return noting

    @property
    def has_notes(self) -> bool:
        """Whether anything was seen."""
        return bool(self._seen)

    @property
    def is_finite(self) -> bool:
        """Whether all of it is."""
        return all(
            seen if isinstance(seen, bool) else math.isfinite(float(seen)) for seen in self._seen
        )
