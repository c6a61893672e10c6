"""The one door to time. A clock is handed in, so that a test can hand in one of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch


class Clock(Protocol):
    """Times a number of calls."""

    def time_calls(self, call: Callable[[], object], count: int) -> float:
        """Seconds that `count` calls took together, all of their work finished."""
        ...


class CpuClock:
    """Wall time of calls that have finished when they return."""

    def time_calls(self, call: Callable[[], object], count: int) -> float:
        """See `Clock`."""
        start = time.perf_counter_ns()
        for _ in range(count):
            call()
        return (time.perf_counter_ns() - start) / 1e9


class CudaClock:
    """Time between two events on the current stream, so that queueing is not mistaken for work."""

    def __init__(self, device: torch.device) -> None:
        import torch

        self._cuda = torch.cuda
        self._device = device

    def time_calls(self, call: Callable[[], object], count: int) -> float:
        """See `Clock`."""
        start, end = self._cuda.Event(enable_timing=True), self._cuda.Event(enable_timing=True)
        self._cuda.synchronize(self._device)
        start.record()
        for _ in range(count):
            call()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3


def clock_for(device: torch.device) -> Clock:
    """The clock that sees the work of a device."""
    return CudaClock(device) if device.type == "cuda" else CpuClock()


def now_s() -> float:
    """Seconds of a clock that never goes back; only differences mean anything."""
    return time.perf_counter()


def utc_now() -> str:
    """The date and time, UTC, ISO 8601 to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def utc_stamp() -> str:
    """The date and time, UTC, fit for a file name: ``20260131T235959``."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
