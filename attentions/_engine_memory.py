"""Memory of the engine's own: what it writes to, and what it keeps the C library from giving back.

Fresh pages take longer than the arithmetic that fills them. glibc learns how much to keep from the
largest block that was let go, but of blocks above 32 MiB it learns nothing: they come from the
system and go back to it. Beside outputs of that size a tile's memory must be held by other means.
And what another call let go, it may have given back. So the pages of large outputs are large ones.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import sys

from torch import Tensor

from ._engine_tiles import Job, widened

_NEVER_KEPT = 32 * 2**20
"""Bytes of a block that glibc never keeps: its DEFAULT_MMAP_THRESHOLD_MAX on 64 bits."""
_LARGE = 4 * 2**20
"""Bytes from which large pages are asked for: two of 2 MiB, of which one lies wholly within."""


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

    A hint, which the system may pass over, and which changes no page that is there already. NumPy
    gives it to all its arrays of such a size, torch if THP_MEM_ALLOC_ENABLE is set.

    Args:
        x: on a processor.
    """
    if x.nbytes >= _LARGE and (libc := _libc()) is not None and hasattr(mmap, "MADV_HUGEPAGE"):
        first = -(-x.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        libc.madvise(first, x.data_ptr() + x.nbytes - first, mmap.MADV_HUGEPAGE)
    return x


def cushion(job: Job, x: Tensor, num_alive: int) -> Block | None:
    """A block to hold on to while jobs like this are done, so that memory stays between tiles.

    glibc gives back what is free at the end of its heap, where that is more than twice the largest
    block it was ever asked for; the next tile's fresh pages then take longer than its arithmetic.
    It gives back nothing that is free below a block in use. So a tile's memory is asked for, and
    let go from under this last block. No page of it is touched here, and none is torch's: what is
    measured of a call is what the call uses.

    Args:
        job: with the heads and tokens of a tile.
        x: (B, H, N, D) that is computed with.
        num_alive: numbers in use at once for a token and head; with none, there is nothing to hold.
    """
    if not num_alive or _libc() is None:
        return None
    heads, tokens = job.heads.stop - job.heads.start, job.tokens.stop - job.tokens.start
    num_bytes = heads * min(tokens, job.tile_len) * x.shape[-1] * widened(x[:0]).itemsize
    # Not in one piece: large blocks have pages of their own, outside of the heap.
    blocks = [Block(num_bytes) for _ in range(1 + -(-num_alive // x.shape[-1]))]
    return blocks[-1]


class Block:
    """Memory of the C library's, which nobody reads or writes, for as long as this lives."""

    def __init__(self, num_bytes: int) -> None:
        self.num_bytes = num_bytes
        libc = _libc()
        self._address = None if libc is None else libc.malloc(num_bytes)

    def __del__(self) -> None:
        libc = _libc()
        if libc is not None:
            libc.free(self._address)


@functools.cache
def _libc() -> ctypes.CDLL | None:
    """The C library; None elsewhere than on Linux."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    libc.malloc.argtypes, libc.malloc.restype = (ctypes.c_size_t,), ctypes.c_void_p
    libc.free.argtypes, libc.free.restype = (ctypes.c_void_p,), None
    libc.madvise.argtypes = (ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int)
    return libc
