"""How the engine cuts its work: jobs, and tiles that stay in a core's cache.

A tile is some tokens of a few heads. An operator's result is then some 512 KiB: the next operator
finds it in a near cache, and no large block is asked of the allocator, whose fresh pages cost as
much as the arithmetic.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ._engine_processor import halves_wide_vectors, has_wide_vectors, is_intel
from ._engine_products import onednn_outruns_mkl
from ._engine_threads import NUM_FEW, Sharing, alone_if_threads_sleep, num_few_shared

_TILE = 2048
"""Most tokens of a tile, counted over its heads ..."""
_MANY_FEATURES = 128
"""... with this many features; with more, half as many."""
_LARGE_TILE = 4096
"""The same where steps are dear beside work: with several threads, which wait for each other once
per operator, and without wide vectors. Still larger ones are blocks that glibc gives back to the
system in between, and so are these beside the tensors of shorter sequences."""
_SHORT = 513
"""Sequences of fewer tokens share a tile with other heads: steps would cost more than work."""
_ROWS_IN_PIECES = 256
"""Tokens of a tile whose heads lie side by side: of fewer, products would be small."""
_SHORTEST_TILE = 32
"""Tokens of a tile with very many heads: products need some length."""


def room(num_features: int, length: int = 0) -> int:
    """Most tokens of a tile of one thread, counted over its heads.

    Args:
        num_features: of one token and head.
        length: N. Large tiles are for long sequences only, whose other tensors are larger still:
            glibc keeps as much memory as it was once asked for in one block, and no more.
    """
    has_many_features = num_features > _MANY_FEATURES
    if is_short(length) or (has_wide_vectors() and not halves_wide_vectors()):
        return _TILE // 2 if has_many_features else _TILE
    return _LARGE_TILE if length >= _LARGE_TILE and not has_many_features else _TILE


def is_short(length: int) -> bool:
    """Whether tokens are few beside a tile."""
    return length < _SHORT


def is_one_tile(batch_size: int, num_heads: int, length: int) -> bool:
    """Whether all of (B, H, N) is a single tile of short sequences: nothing is to be cut."""
    return is_short(length) and batch_size * num_heads * length <= _TILE


@dataclass(frozen=True)
class Job:
    """One batch row, some of its heads, some of its tokens."""

    row: int
    heads: slice
    tokens: slice
    tile_len: int

    def over(self, length: int) -> Job:
        """The same heads of a sequence of this length, whole."""
        if _covers(self.tokens, length):
            return self
        return replace(self, tokens=slice(0, length))

    def tiles(self) -> Iterator[slice]:
        """The tokens, tile by tile."""
        for start in range(self.tokens.start, self.tokens.stop, self.tile_len):
            yield slice(start, min(start + self.tile_len, self.tokens.stop))

    def in_parts(self, number: int) -> list[Job]:
        """So many jobs of whole tiles, or fewer."""
        first, last = self.tokens.start, self.tokens.stop
        num_tiles = -(-(last - first) // self.tile_len)
        part_len = -(-num_tiles // number) * self.tile_len
        starts = range(first, last, part_len)
        return [replace(self, tokens=slice(t, min(t + part_len, last))) for t in starts]

    def of(self, x: Tensor) -> Tensor:
        """The job's heads of (B, H, N, ...): (heads, N, ...)."""
        row = x[self.row]
        return row if _covers(self.heads, row.shape[0]) else row[self.heads]


@functools.lru_cache(maxsize=1024)
def plan(
    batch_size: int,
    num_heads: int,
    length: int,
    *,
    num_features: int,
    joint_heads: int,
    num_threads: int,
    apart: bool,
    may_split: bool,
    backward: bool = False,
    tokens_first: bool = False,
) -> tuple[Job, ...]:
    """Cut (B, H, N) into jobs, which together cover the tokens of each head once.

    Where oneDNN outruns MKL, one thread takes long sequences head by head; so does
    each of several with many features, where products are most of the work.

    Args:
        batch_size: B.
        num_heads: H.
        length: N.
        num_features: of one token and head.
        joint_heads: heads that must be in one tile.
        num_threads: that work at once.
        apart: whether each thread has jobs of its own, see `Sharing`.
        may_split: whether jobs may share heads where these are too few for the threads.
        tokens_first: whether the heads of a token lie side by side in memory. Then a tile has more
            of them, and reads its tokens in longer pieces.
        backward: whether many results are alive at once. Tiles of a single thread are then smaller
            in part: glibc gives memory back to the system that a small process has only just let
            go. To share the operators of such tiles would take longer than it saves.
    """
    has_many_features = num_features > _MANY_FEATURES
    apart = apart and num_threads > 1
    share = -(-batch_size * num_heads // num_threads) if apart else num_heads
    fits_onednn = onednn_outruns_mkl(is_wide=has_many_features)
    if is_short(length):
        alone = num_threads == 1 or apart
        halved = backward and alone and (has_wide_vectors() or has_many_features)
        most = room(num_features) // (2 if halved else 1)
        together = min(most // length, share)
    elif num_threads == 1:
        most = room(num_features, length)
        together = 1 if fits_onednn else max(1, most // length)
        if tokens_first and not fits_onednn:
            together = max(together, most // _ROWS_IN_PIECES)
    elif not apart:
        is_long = length >= _LARGE_TILE
        most = _LARGE_TILE if is_long and not has_many_features else _TILE
        if has_many_features and not is_long:
            most //= 2
        together = max(num_threads, most // length)
    elif has_many_features:
        most = _TILE
        together = 1 if fits_onednn else min(max(1, most // length), share)
    else:
        # 2 MiB each, several results of which glibc gives back, even when nothing is kept.
        is_wide = num_features > _MANY_FEATURES // 2 and length < _LARGE_TILE
        most = room(num_features, length) if backward or is_wide else _LARGE_TILE
        together = min(max(1, most // length), share)
        if tokens_first and length < _LARGE_TILE:
            together = max(together, min(most // _ROWS_IN_PIECES, share))
    heads = whole_groups(together, num_heads, joint_heads)
    tile_len = max(most // heads, _SHORTEST_TILE)
    jobs = jobs_of(batch_size, num_heads, length, heads=heads, tile_len=tile_len)
    if may_split and apart and not is_short(length) and len(jobs) < num_threads:
        return tuple(part for job in jobs for part in job.in_parts(num_threads))
    return tuple(jobs)


def is_little(batch_size: int, num_heads: int, length: int, *, num_features: int) -> bool:
    """Whether one thread has done it before another one is awake."""
    return batch_size * num_heads * length * num_features <= NUM_FEW


def sharing_of(
    batch_size: int,
    num_heads: int,
    length: int,
    *,
    num_features: int,
    few_operators: bool = False,
    joint_heads: int = 1,
    has_backward: bool = False,
) -> Sharing:
    """What several threads that sleep in between do with (B, H, N).

    Without wide vectors an operator on a whole tile takes longer than it takes to wake a thread,
    and jobs of half a tile come off worse, whose threads wait for the interpreter as often. Not so
    where features are made of many small operators, unless threads wake up soon and there is a
    backward pass: a forward pass alone is over before that pays, and features with norms over
    several heads were found to take longer.
    """
    pays = is_intel() and has_backward and joint_heads == 1
    has_large_operators = (
        (pays or (few_operators and not has_wide_vectors()))
        and num_features <= _MANY_FEATURES
        and is_one_tile(batch_size, num_heads, length)
    )
    few = num_few_shared() if has_large_operators else NUM_FEW
    if batch_size * num_heads * length * num_features <= few:
        return Sharing.NONE
    return Sharing.OPERATORS if has_large_operators else Sharing.JOBS


def whole_groups(together: int, num_heads: int, joint_heads: int = 1) -> int:
    """So many heads or fewer, in whole groups of joint heads, at least one of these."""
    return max(joint_heads, min(together, num_heads) // joint_heads * joint_heads)


def jobs_of(
    batch_size: int, num_heads: int, length: int, *, heads: int, tile_len: int
) -> list[Job]:
    """Row by row, ``heads`` at a time."""
    return [
        Job(row, slice(head, min(head + heads, num_heads)), slice(0, length), tile_len)
        for row in range(batch_size)
        for head in range(0, num_heads, heads)
    ]


def tokens_of(x: Tensor, tokens: slice) -> Tensor:
    """Some of (heads, N, ...); x itself where that is all: even a view takes its time."""
    return x if _covers(tokens, x.shape[1]) else x[:, tokens]


def _covers(part: slice, length: int) -> bool:
    return part == slice(0, length)


def whole(parts: Sequence[Sequence[Tensor]], jobs: Sequence[Job], x: Tensor) -> list[Tensor]:
    """(B, H, ...) each, summed over jobs of (heads, ...); B and H are those of x."""
    if len(jobs) == 1:
        return [part.unsqueeze(0) for part in parts[0]]
    if _in_order(jobs, x.shape[1]):
        joined = (torch.cat(list(of_jobs)) for of_jobs in zip(*parts, strict=True))
        return [torch.unflatten(one, 0, x.shape[:2]) for one in joined]
    with alone_if_threads_sleep():
        wholes = [part.new_zeros(*x.shape[:2], *part.shape[1:]) for part in parts[0]]
        for job, own in zip(jobs, parts, strict=True):
            for target, part in zip(wholes, own, strict=True):
                job.of(target).add_(part)
    return wholes


def _in_order(jobs: Sequence[Job], num_heads: int) -> bool:
    """Whether each job begins with the head that follows the last one of the job before."""
    starts = [job.row * num_heads + job.heads.start for job in jobs]
    ends = [job.row * num_heads + job.heads.stop for job in jobs]
    return starts[1:] == ends[:-1]


def add_to_heads(totals: Sequence[Tensor], job: Job, parts: Sequence[Tensor]) -> None:
    """Add a job's (heads, ...) to those of all rows, (H, ...)."""
    for total, part in zip(totals, parts, strict=True):
        total[job.heads].add_(part)


def widened(x: Tensor) -> Tensor:
    """Float32 for a tile of a half tensor."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def store(value: Tensor, target: Tensor) -> None:
    """Write a wide tile of a gradient where it belongs; float16 stops at its largest number."""
    if target.dtype == torch.float16:
        largest = torch.finfo(torch.float16).max
        value = value.clamp(-largest, largest)
    target.copy_(value)
