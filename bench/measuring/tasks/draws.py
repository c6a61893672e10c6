"""Random numbers of a run: every use has a stream of its own, and all follow from one seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from bench.measuring.device import Device, device_named


def derived_seed(seed: int, purpose: str) -> int:
    """One of the many seeds that follow from a run's seed, so that no two uses share a stream."""
    digest = hashlib.sha256(f"{purpose} {seed}".encode()).digest()
    return int.from_bytes(digest[:4], "big")  # torch's CPU generator uses 32 bits of a seed


def generator(seed: int, purpose: str) -> torch.Generator:
    """A stream of random numbers of its own, on the CPU."""
    return torch.Generator().manual_seed(derived_seed(seed, purpose))


@contextmanager
def seeded(seed: int, purpose: str, device: Device | None = None) -> Iterator[None]:
    """Give code that draws from torch's global streams a seed, and put the streams back after."""
    device = device or device_named("cpu")
    before = device.stream_state()
    try:
        torch.manual_seed(derived_seed(seed, purpose))
        yield
    finally:
        device.restore_streams(before)


def distinct(count: int, size: int, population: int, stream: torch.Generator) -> Tensor:
    """(count, size): in each row, different numbers from 0 to population - 1, in random order.

    Rows with a repetition are drawn again: at a population of thousands a hundred times cheaper
    than to shuffle it. Where most rows would have one, it is shuffled.

    Raises:
        ValueError: more numbers than there are.
    """
    if size > population:
        raise ValueError(f"{size} different numbers of {population} are none.")
    if size * size > 4 * population:  # fewer than one row in seven would have no repetition
        return torch.rand(count, population, generator=stream).argsort(dim=1)[:, :size]
    rows = torch.randint(population, (count, size), generator=stream)
    while True:
        in_order = rows.sort(dim=1).values
        wrong = (in_order[:, 1:] == in_order[:, :-1]).any(dim=1)
        if not wrong.any():
            return rows
        rows[wrong] = torch.randint(population, (int(wrong.sum()), size), generator=stream)


def in_turn(num_examples: int, size: int, stream: torch.Generator) -> Iterator[Tensor]:
    """Indices of `size` examples at a time, without end: all in a random order, then anew."""
    queue = torch.empty(0, dtype=torch.long)
    while True:
        while len(queue) < size:
            queue = torch.cat([queue, torch.randperm(num_examples, generator=stream)])
        yield queue[:size]
        queue = queue[size:]


HELD_OUT = 8
"""One in so many training examples of a fixed set is held out for validation."""


def held_out(num_examples: int) -> Tensor:
    """(num_examples,): which training examples are kept for validation, evenly spread.

    At least one of two; a single example cannot be divided.
    """
    every = min(HELD_OUT, max(num_examples, 2))
    return torch.arange(num_examples) % every == every - 1
