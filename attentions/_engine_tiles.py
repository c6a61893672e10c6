"""How the engine cuts its work: jobs, and tiles that stay in a core's cache.

A tile is some tokens of a few heads. An operator's result is then some 512 KiB: the next operator
finds it in a near cache, and no large block is asked of the allocator, whose fresh pages cost as
much as the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .base import CallShape

_TILE = 2048
"""Most tokens of a tile, counted over its heads ..."""
_MANY_FEATURES = 128
"""... with this many features; with more, half as many."""
_SHARED_TILE = 4096
"""The same where several threads share each operator: they wait for each other once per operator,
and a larger one repays that. Still larger ones are blocks that glibc gives back in between."""
_SHORT = 513
"""Sequences of fewer tokens share a tile with other heads: steps would cost more than work."""
_SHORTEST_TILE = 32
"""Tokens of a tile with very many heads: products need some length."""


def room(num_features: int, num_threads: int = 1) -> int:
    """Most tokens of a tile, counted over its heads."""
    if num_threads > 1:
        return _SHARED_TILE
    return _TILE if num_features <= _MANY_FEATURES else _TILE // 2


def is_short(length: int) -> bool:
    """Whether tokens are few beside a tile."""
    return length < _SHORT


def is_one_tile(batch_size: int, num_heads: int, length: int) -> bool:
    """Whether all of (B, H, N) is a single tile of short sequences: nothing is to be cut."""
    return is_short(length) and batch_size * num_heads * length <= _TILE


@dataclass(frozen=True)
class Job:
    """All tokens of some heads of one batch row."""

    row: int
    heads: slice
    length: int
    tile_len: int

    def num_tokens(self) -> int:
        """Counted over heads."""
        return len(range(self.heads.start, self.heads.stop)) * self.length

    def over(self, length: int) -> Job:
        """The same heads of a sequence of this length."""
        return replace(self, length=length)

    def tiles(self) -> Iterator[slice]:
        """The tokens, tile by tile."""
        for start in range(0, self.length, self.tile_len):
            yield slice(start, min(start + self.tile_len, self.length))

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
    share_operators: bool,
    backward: bool = False,
) -> list[Job]:
    """Cut (B, H, N) into jobs, which together cover each head once.

    One thread takes long sequences head by head, since `_engine_products` is fastest with one.

    Args:
        batch_size: B.
        num_heads: H.
        length: N.
        num_features: of one token and head.
        joint_heads: heads that must be in one tile.
        num_threads: that work at once.
        share_operators: whether all of them work at one job; else each has jobs of its own.
        backward: whether many results are alive at once. Short sequences then get smaller tiles:
            glibc gives memory back to the system that a small process has only just let go.
    """
    most = room(num_features, 1 if is_short(length) else num_threads)
    if is_short(length):
        most //= 2 if backward else 1
        together = most // length
    elif num_threads == 1:
        together = 1
    elif share_operators:
        together = max(num_threads, most // length)
    else:
        together = min(most // length, -(-batch_size * num_heads // num_threads))
    heads = whole_groups(together, num_heads, joint_heads)
    tile_len = max(most // heads, _SHORTEST_TILE)
    return jobs_of(batch_size, num_heads, length, heads=heads, tile_len=tile_len)


def whole_groups(together: int, num_heads: int, joint_heads: int = 1) -> int:
    """So many heads or fewer, in whole groups of joint heads, at least one of these."""
    return max(joint_heads, min(together, num_heads) // joint_heads * joint_heads)


def jobs_of(
    batch_size: int, num_heads: int, length: int, *, heads: int, tile_len: int
) -> list[Job]:
    """Row by row, ``heads`` at a time."""
    return [
        Job(row, slice(head, min(head + heads, num_heads)), length, tile_len)
        for row in range(batch_size)
        for head in range(0, num_heads, heads)
    ]


def whole(parts: Sequence[Sequence[Tensor]], jobs: Sequence[Job], x: Tensor) -> list[Tensor]:
    """(B, H, ...) each, from the (heads, ...) of every job; B and H are those of x."""
    if len(jobs) == 1:
        return [part.unsqueeze(0) for part in parts[0]]
    wholes = [part.new_empty(*x.shape[:2], *part.shape[1:]) for part in parts[0]]
    for job, own in zip(jobs, parts, strict=True):
        for target, part in zip(wholes, own, strict=True):
            job.of(target).copy_(part)
    return wholes


def add_to_heads(totals: Sequence[Tensor], job: Job, parts: Sequence[Tensor]) -> None:
    """Add a job's (heads, ...) to those of all rows, (H, ...)."""
    for total, part in zip(totals, parts, strict=True):
        total[job.heads].add_(part)


def tile_elements(
    shape: CallShape,
    num_features: int,
    *,
    forward_maps: float,
    backward_maps: float | None,
) -> int:
    """Elements alive at the peak of a call: a tile, and the sums over keys.

    Args:
        shape: of the call.
        num_features: F, over all parts.
        forward_maps: tensors as large as a tile's features alive at once.
        backward_maps: the same with a backward pass; None for the forward pass alone.
    """
    tokens = max(shape.num_tokens, shape.num_keys)
    tiles = min(room(num_features, torch.get_num_threads()), tokens) * num_features
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
