"""Group items by a key."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

K = TypeVar("K")
T = TypeVar("T")


def grouped(ones: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Items by their key; groups, and items within one, keep their order."""
    groups: dict[K, list[T]] = {}
    for one in ones:
        groups.setdefault(key(one), []).append(one)
    return groups
