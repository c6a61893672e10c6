"""Memory of the engine's own: what it writes to, and what it keeps the C library from giving back.

Fresh pages take longer than the arithmetic that fills them. glibc learns how much to keep from the
largest block that was let go, but of blocks above 32 MiB it learns nothing: they come from the
system and go back to it. So outputs of that size are where fresh pages must be fewer, and where a
tile's memory must be held by other means.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import sys
from collections.abc import Callable

from torch import Tensor

from ._engine_tiles import Job, widened

_NEVER_KEPT = 32 * 2**20
"""Bytes of a block that glibc never keeps: its DEFAULT_MMAP_THRESHOLD_MAX on 64 bits."""


def is_never_kept(x: Tensor) -> bool:
    """Whether memory as large as this goes back to the system when it is let go."""
    return x.nbytes >= _NEVER_KEPT


def like_in_memory(x: Tensor, width: int) -> Tensor:
    """An empty (B, H, N, width) whose heads and tokens lie in memory in the order of x's."""
    batch_size, num_heads, length, _ = x.shape
    if x.stride(1) < x.stride(2):
        return in_large_pages(x.new_empty(batch_size, length, num_heads, width)).transpose(1, 2)
    return in_large_pages(x.new_empty(batch_size, num_heads, length, width))


def in_large_pages(x: Tensor) -> Tensor:
    """The same empty tensor, on Linux in pages of 2 MiB if it is large and the system has them.

    A hint, which the system may pass over, about memory that nobody has touched. NumPy gives it to
    all its arrays from 4 MiB on, torch if THP_MEM_ALLOC_ENABLE is set.

    Args:
        x: on a processor.
    """
    if is_never_kept(x) and (advise := _madvise()) is not None:
        first = -(-x.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        advise(first, x.data_ptr() + x.nbytes - first, mmap.MADV_HUGEPAGE)
    return x


@functools.cache
def _madvise() -> Callable[[int, int, int], int] | None:
    """Of the C library; None elsewhere than on Linux."""
    if not (sys.platform == "linux" and hasattr(mmap, "MADV_HUGEPAGE")):
        return None
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = (ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int)
    return advise


def cushion(job: Job, x: Tensor, num_alive: int) -> Tensor | None:
    """A block to hold on to while jobs like this are done, so that memory stays between tiles.

    glibc gives back what is free at the end of its heap, where that is more than twice the largest
    block it was ever asked for; the next tile's fresh pages then take longer than its arithmetic.
    It gives back nothing that is free below a block in use. So a tile's memory is asked for, and
    let go from under this last block. No page of it is touched here.

    Args:
        job: with the heads and tokens of a tile.
        x: (B, H, N, D) that is computed with.
        num_alive: numbers in use at once for a token and head; with none, there is nothing to hold.
    """
    if not num_alive:
        return None
    heads, tokens = job.heads.stop - job.heads.start, job.tokens.stop - job.tokens.start
    size, dtype = (heads, min(tokens, job.tile_len), x.shape[-1]), widened(x[:0]).dtype
    # Not in one piece: large blocks have pages of their own, outside of the heap.
    blocks = [x.new_empty(size, dtype=dtype) for _ in range(1 + -(-num_alive // x.shape[-1]))]
    return blocks[-1]
