"""Sequences in chunks of tokens: pairs within a chunk are explicit, earlier chunks are a state."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

CHUNK = 64
"""Tokens of a chunk; a power of two. For D = 64 its pairs take as much memory as the state."""

DELTA_CHUNK = 32
"""The same where a triangular system of each chunk is solved, which costs the square of it."""


def power_of_two_chunk(length: int, most: int = CHUNK) -> int:
    """At most ``most``, or the least power of two that is not below a shorter length."""
    return int(min(most, 1 << (length - 1).bit_length()))


def in_chunks(x: Tensor, size: int, dim: int = -2) -> Tensor:
    """Split the axis ``dim``, counted from the end, in chunks; zeros fill the last one.

    A key and a value of zeros write nothing, and a log decay of zero forgets nothing.
    """
    missing = -x.shape[dim] % size
    if missing:
        x = functional.pad(x, (0, 0) * (-1 - dim) + (0, missing))
    return torch.unflatten(x, dim, (-1, size))


def padded_len(length: int, size: int) -> int:
    """The length of whole chunks that contain ``length`` tokens."""
    return -(-length // size) * size
