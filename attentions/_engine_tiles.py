"""How the engine cuts its work: jobs for threads, and tiles that stay in a core's cache.

A tile is some tokens of a few heads. An operator's result is then some 512 KiB: the next operator
finds it in a near cache, and no large block is asked of the allocator, whose fresh pages cost as
much as the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .base import CallShape

_TILE = 2048
"""Most tokens of a tile, counted over its heads ..."""
_MANY_FEATURES = 128
"""... with this many features; with more, half as many."""
_SHORT = 513
"""Sequences of fewer tokens share a tile with other heads: steps would cost more than work."""
_SHORTEST_TILE = 32
"""Tokens of a tile with very many heads: products need some length."""


def room(num_features: int) -> int:
    """Most tokens of a tile, counted over its heads."""
    return _TILE if num_features <= _MANY_FEATURES else _TILE // 2


def is_one_tile(batch_size: int, num_heads: int, length: int) -> bool:
    """Whether all of (B, H, N) is a single tile of short sequences: nothing is to be cut."""
    return length < _SHORT and batch_size * num_heads * length <= _TILE


@dataclass(frozen=True)
class Job:
    """One batch row, some of its heads, some of its tokens."""

    row: int
    heads: slice
    tokens: slice
    tile_len: int

    def over(self, length: int) -> Job:
        """The same heads of a sequence of this length, whole."""
        return Job(self.row, self.heads, slice(0, length), self.tile_len)

    def tiles(self) -> Iterator[slice]:
        """The tokens, tile by tile."""
        for start in range(self.tokens.start, self.tokens.stop, self.tile_len):
            yield slice(start, min(start + self.tile_len, self.tokens.stop))

    def of(self, x: Tensor) -> Tensor:
        """The job's heads of (B, H, N, ...): (heads, N, ...)."""
        return x[self.row, self.heads]


def plan(
    batch_size: int,
    num_heads: int,
    length: int,
    *,
    num_features: int,
    joint_heads: int,
    num_threads: int,
    split_tokens: bool,
    backward: bool = False,
) -> list[Job]:
    """Cut (B, H, N) into jobs, which together cover the tokens of each head once.

    Args:
        batch_size: B.
        num_heads: H.
        length: N.
        num_features: of one token and head.
        joint_heads: heads that must be in one tile.
        num_threads: threads that will share the jobs.
        split_tokens: whether jobs may share a head where there are too few heads for the threads.
        backward: whether many results are alive at once. Short sequences then get smaller tiles:
            glibc gives memory back to the system that a small process has only just let go.
    """
    groups = num_heads // joint_heads
    share = -(-batch_size * groups // num_threads)
    is_short = length < _SHORT
    most = room(num_features) // (2 if backward and is_short else 1)
    fitting = most // (length * joint_heads) if is_short else 1
    together = joint_heads * max(1, min(fitting, share))
    tile_len = max(most // together, _SHORTEST_TILE)
    parts = [slice(0, length)]
    if split_tokens and batch_size * groups < num_threads:
        tiles = -(-length // tile_len)
        part_len = -(-tiles // num_threads) * tile_len
        parts = [slice(t, min(t + part_len, length)) for t in range(0, length, part_len)]
    return [
        Job(row, slice(head, min(head + together, num_heads)), part, tile_len)
        for row in range(batch_size)
        for head in range(0, num_heads, together)
        for part in parts
    ]


def tile_elements(
    shape: CallShape,
    num_features: int,
    *,
    forward_maps: float,
    backward_maps: float | None,
) -> int:
    """Elements alive at the peak of a call: a tile for each thread, and the sums over keys.

    Args:
        shape: of the call.
        num_features: F, over all parts.
        forward_maps: tensors as large as a tile's features alive at once.
        backward_maps: the same with a backward pass; None for the forward pass alone.
    """
    tokens = max(shape.num_tokens, shape.num_keys)
    tiles = min(torch.get_num_threads() * room(num_features), tokens) * num_features
    maps, copies = (forward_maps, 2) if backward_maps is None else (backward_maps, 6)
    sums = shape.batch_size * shape.num_heads * num_features * (shape.value_dim + 1)
    return int(maps * tiles) + copies * sums


def widened(x: Tensor) -> Tensor:
    """Float32 for a tile of a half tensor."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def like_in_memory(x: Tensor, width: int) -> Tensor:
    """An empty (B, H, N, width) whose heads and tokens lie in memory in the order of x's."""
    batch_size, num_heads, length, _ = x.shape
    if x.stride(1) < x.stride(2):
        return x.new_empty(batch_size, length, num_heads, width).transpose(1, 2)
    return x.new_empty(batch_size, num_heads, length, width)


def store(value: Tensor, target: Tensor) -> None:
    """Write a wide tile of a gradient where it belongs; float16 stops at its largest number."""
    if target.dtype == torch.float16:
        largest = torch.finfo(torch.float16).max
        value = value.clamp(-largest, largest)
    target.copy_(value)
