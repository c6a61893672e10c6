"""How much memory one call needs. A pass of its own, never while timing."""

from __future__ import annotations

import ctypes
import gc
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks


def peak_memory_bytes(call: Callable[[], object], device: torch.device) -> int | None:
    """Bytes allocated at the peak of one call, above what was allocated before it.

    On a CPU the exact sum over the allocator's own events, as the profiler sees them, scratch
    inside fused operators included. On CUDA the caching allocator's peak. None elsewhere.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_allocated(device) - before)
    if device.type != "cpu":
        return None
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profiler:
        result = call()
    del result
    assert profiler.profiler is not None and profiler.profiler.kineto_results is not None
    current = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            current += event.nbytes()
            peak = max(peak, current)
    return peak


def peak_rss_bytes(call: Callable[[], object]) -> int | None:
    """Bytes by which the process's resident size rose at the peak of one call, the less of two.

    The system's own view, which also sees memory that is not torch's: true to a few per cent above
    30 MiB, and below that made of pages and of what the allocator keeps. To be taken in a fresh
    process after a first call. None where the system does not tell, as outside of Linux.
    """
    trim = _trim()
    if trim is None:
        return None
    gc.collect()
    # A library for products keeps scratch of tens of MiB for each of its threads, from the first
    # product that this thread takes part in. On a busy machine that can be as late as here. It
    # belongs to the process, not to the call, and the next call has it already.
    try:
        rises = [_resident_rise_bytes(call, trim) for _ in range(2)]
    except OSError:
        return None
    return min((rise for rise in rises if rise is not None), default=None)


def _resident_rise_bytes(call: Callable[[], object], trim: Callable[[int], int]) -> int | None:
    trim(0)  # else the call would be served from what earlier ones have left behind
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is resident now
    before = _resident_peak_bytes()
    call()
    after = _resident_peak_bytes()
    return None if before is None or after is None else after - before


def leaked_bytes(call: Callable[[], object], device: torch.device, num_calls: int) -> int | None:
    """Bytes that the process keeps of each call, the less of two looks; None where unknown.

    By the resident size on a CPU, by the caching allocator on CUDA.
    """
    trim, size = _trim(), _resident_bytes
    if device.type == "cuda":
        trim, size = lambda _: 0, lambda: torch.cuda.memory_allocated(device)
    if trim is None or device.type not in ("cpu", "cuda"):
        return None
    kept = []
    for _ in range(2):
        trim(0)
        before = size()
        for _ in range(num_calls):
            call()
        gc.collect()
        trim(0)
        after = size()
        if before is None or after is None:
            return None
        kept.append((after - before) // num_calls)
    return max(0, min(kept))


def _trim() -> Callable[[int], int] | None:
    """Give back to the system what the allocator keeps, by glibc; None without it."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return getattr(libc, "malloc_trim", None)


def _resident_bytes() -> int | None:
    return _status_bytes("VmRSS")


def _resident_peak_bytes() -> int | None:
    return _status_bytes("VmHWM")


def _status_bytes(name: str) -> int | None:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    return int(found[1]) * 1024 if found else None


def saved_for_backward_bytes(forward: Callable[[], Tensor], excluded: Iterable[Tensor]) -> int:
    """Bytes of distinct storages that autograd keeps from `forward` until the backward pass.

    Inputs that are kept count, for without this mechanism they could have been freed; `excluded`
    are the parameters, which live anyway.
    """
    skip = {t.untyped_storage().data_ptr() for t in excluded}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in skip:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        out = forward()
        del out
    return sum(kept.values())
