"""Make the next call find nothing of its own in the processor's or the card's cache."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import torch

_FALLBACK_BYTES = 64 * 2**20


def last_level_cache_bytes(device: torch.device) -> int:
    """Size of the largest cache between a device and its memory; 64 MiB where it cannot be read."""
    return cache_levels_bytes(device)[-1]


def cache_levels_bytes(device: torch.device) -> tuple[int, ...]:
    """Sizes of the caches from the second level on, as far as one thread has them; rising.

    On CUDA the one that all multiprocessors share. A last level of 64 MiB where it cannot be read.
    """
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return (int(getattr(properties, "L2_cache_size", 0)) or _FALLBACK_BYTES,)
    levels: dict[int, int] = {}
    for folder in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            level, size = int((folder / "level").read_text()), _read_size(folder / "size")
        except (OSError, ValueError):
            continue
        if level >= 2 and size:
            levels[level] = max(size, levels.get(level, 0))
    return tuple(sorted(levels.values())) or (_FALLBACK_BYTES,)


def _read_size(file: Path) -> int:
    match = re.fullmatch(r"(\d+)([KMG]?)", file.read_text().strip())
    return int(match[1]) * {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}[match[2]] if match else 0


def flusher(device: torch.device) -> Callable[[], None]:
    """A call that writes twice the last-level cache, to be made outside of what is timed."""
    buffer = torch.zeros(2 * last_level_cache_bytes(device) // 4, device=device)

    def flush() -> None:
        buffer.add_(1.0)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return flush
