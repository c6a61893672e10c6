"""Memory that is still to be had, and a limit that keeps a process within it."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path

import psutil


def free_bytes(device: str) -> int:
    """Memory that a cell could still get: what is free now on a CPU, all of a CUDA device's."""
    if device == "cpu":
        return min(int(psutil.virtual_memory().available), _container_free_bytes())
    import torch

    return int(torch.cuda.get_device_properties(torch.device(device)).total_memory)


def keep_within_free_memory() -> None:
    """Make an allocation beyond what is free now fail in this process, on Linux.

    It then raises an error that can be caught, where the kernel would end a process, and not always
    the one that asked. Only writable private memory is limited: libraries, and what a CUDA driver
    reserves without using it, are no matter of it.
    """
    own = _private_bytes()
    if sys.platform != "linux" or own is None:
        return
    limit = own + free_bytes("cpu")
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def memory_limit_bytes() -> int:
    """All memory of the machine, or of the container if that is less."""
    total = int(psutil.virtual_memory().total)
    limit = _read_int("/sys/fs/cgroup/memory.max")
    return min(total, limit) if limit is not None else total


def _private_bytes() -> int | None:
    try:
        found = re.search(r"^VmData:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def _container_free_bytes() -> int:
    limit = _read_int("/sys/fs/cgroup/memory.max")
    used = _read_int("/sys/fs/cgroup/memory.current")
    if limit is None or used is None:
        return 1 << 62
    stat = Path("/sys/fs/cgroup/memory.stat").read_text()
    reclaimable = sum(int(n) for n in re.findall(r"^inactive_file (\d+)$", stat, re.M))
    return max(0, limit - used + reclaimable)


def _read_int(path: str) -> int | None:
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):  # no such file, or the word "max"
        return None
