"""Clocks that time calls on a device: handed in, so that a test can hand in one of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from bench.core.clock import wall_ns

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
        read = wall_ns
        start = read()
        for _ in range(count):
            call()
        return (read() - start) / 1e9


class CudaClock:
    """Time between two events on the current stream, so that queueing is not mistaken for work."""

    def __init__(self, device: torch.device) -> None:
        import torch  # not at the top: the server that forks workers preloads it when it is asked

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
