"""A CUDA card: events for a clock, the caching allocator, and its driver's tools."""

from __future__ import annotations

import ctypes
import gc
import subprocess
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bench.core.clock import now_s
from bench.measuring.device.base import (
    FALLBACK_CACHE_BYTES,
    Device,
    Profile,
    recorded,
    sdpa_kernel,
)

if TYPE_CHECKING:
    import torch

_READINGS = {
    "clocks.sm": "sm_clock_mhz",
    "clocks.mem": "memory_clock_mhz",
    "power.draw": "power_w",
    "enforced.power.limit": "power_cap_w",
    "temperature.gpu": "temperature_c",
}
"""Fields queried from the driver's tool, each with its name in a record."""

_PATIENCE_S = 10
_ENERGY_S = 1.0
"""Seconds of calls between two readings of the meter, which a card updates every 20 to 100 ms."""
_AT_ONCE_S = 0.05
"""Seconds of calls between two readings of the clock, so that the card is hardly ever idle."""

_BFLOAT16_FROM = (8, 0)
"""Compute capability of the first cards with bfloat16 in hardware. On older ones torch emulates
it, and a timing would be that of the emulation."""


class Cuda(Device):
    """A card, or a part of one (MIG), by torch's index."""

    kind = "cuda"

    @classmethod
    def present(cls) -> tuple[str, ...]:
        """See `Device`."""
        import torch

        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return tuple(f"{cls.kind}:{index}" for index in range(count))

    @cached_property
    def api(self) -> Any:
        """Torch's module for cards."""
        import torch

        return torch.cuda

    @property
    def properties(self) -> Any:
        """See `Device`."""
        return self.api.get_device_properties(self.place)

    @property
    def title(self) -> str:
        """See `Device`; for a part of a card it names the part, such as ``MIG 1g.10gb``."""
        return str(self.api.get_device_name(self.place))

    @property
    def identity(self) -> str:
        """See `Device`; a UUID, as torch's indices depend on CUDA_VISIBLE_DEVICES."""
        return str(self.properties.uuid)

    @property
    def driver(self) -> str | None:
        """See `Device`."""
        return next(iter(self._asked("driver_version")), None)

    def time_calls(self, call: Callable[[], object], count: int) -> float:
        """See `Clock`; between two events on its current stream, as calls only queue work."""
        cuda = self.api
        with cuda.device(self.place):  # events are recorded on the current device's stream
            start, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
            self.synchronize()
            start.record()
            for _ in range(count):
                call()
            end.record()
            end.synchronize()
        return float(start.elapsed_time(end)) / 1e3

    def synchronize(self) -> None:
        """See `Device`."""
        self.api.synchronize(self.place)

    def profile(self, call: Callable[[], object]) -> Profile:
        """See `Device`; the peak is the caching allocator's."""
        gc.collect()
        self.synchronize()
        before = self.api.memory_allocated(self.place)
        self.api.reset_peak_memory_stats(self.place)
        events = recorded(call, memory=False)
        self.synchronize()
        peak = int(self.api.max_memory_allocated(self.place) - before)
        return Profile(peak_bytes=peak, sdpa_kernel=sdpa_kernel(e.name() for e in events))

    def held_bytes(self) -> int | None:
        """See `Device`; by the caching allocator."""
        return int(self.api.memory_allocated(self.place))

    def free_bytes(self) -> int:
        """See `Device`."""
        return int(self.properties.total_memory)

    def cache_levels_bytes(self) -> tuple[int, ...]:
        """See `Device`."""
        return (int(self.properties.L2_cache_size) or FALLBACK_CACHE_BYTES,)

    def stream_state(self) -> dict[str, torch.Tensor]:
        """See `Device`."""
        return super().stream_state() | {self.kind: self.api.get_rng_state(self.place)}

    def restore_streams(self, state: dict[str, torch.Tensor]) -> None:
        """See `Device`."""
        super().restore_streams(state)
        if self.kind in state:
            self.api.set_rng_state(state[self.kind].cpu(), self.place)

    def imitates(self, dtype: str) -> str | None:
        """See `Device`."""
        import torch

        capability = self.api.get_device_capability(self.place)
        is_new = torch.version.hip is not None or capability >= _BFLOAT16_FROM
        if dtype != "bfloat16" or is_new:
            return None
        have, need = (".".join(map(str, pair)) for pair in (capability, _BFLOAT16_FROM))
        return f"its compute capability is {have}, and {need} is needed."

    def readings(self) -> dict[str, float]:
        """See `Device`; none for a part of a card, as readings are those of the whole card."""
        if self._is_part:
            return {}
        pairs = zip(_READINGS.values(), map(_number, self._asked(*_READINGS)), strict=False)
        return {name: value for name, value in pairs if value is not None}

    def energy_j(self, call: Callable[[], object]) -> float | None:
        """See `Device`; None also for a part of a card, or if its meter is missing or fails."""
        meter = None if self._is_part else _meter(f"GPU-{self.identity}")
        if meter is None:
            return None
        at_once = max(1, int(_AT_ONCE_S / max(self.time_calls(call, 1), 1e-6)))
        before, started, count = meter(), now_s(), 0
        while now_s() - started < _ENERGY_S:
            self.time_calls(call, at_once)
            count += at_once
        rise = meter() - before
        return rise / 1e3 / count if rise >= 0 else None

    @property
    def _is_part(self) -> bool:
        return "MIG" in self.title

    def _asked(self, *fields: str) -> list[str]:
        """Values of fields by the driver's tool for this card; none if it is missing or fails."""
        words = [
            "nvidia-smi",
            *([] if self._is_part else [f"--id=GPU-{self.identity}"]),
            f"--query-gpu={','.join(fields)}",
            "--format=csv,noheader,nounits",
        ]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=_PATIENCE_S)
        except (OSError, subprocess.TimeoutExpired):
            return []
        lines = done.stdout.strip().splitlines() if done.returncode == 0 else []
        return [value.strip() for value in lines[0].split(",")] if lines else []


def _meter(uuid: str) -> Callable[[], int] | None:
    """Function that reads a card's energy in millijoules since its driver was loaded, by NVML.

    None without a meter.
    """
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    handle, value = ctypes.c_void_p(), ctypes.c_ulonglong()

    def read() -> int:
        code = nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(value))
        return -1 if code else value.value

    has_card = nvml.nvmlInit_v2() == 0 and (
        nvml.nvmlDeviceGetHandleByUUID(uuid.encode(), ctypes.byref(handle)) == 0
    )
    return read if has_card and read() >= 0 else None


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:  # "[N/A]" for fields that a card lacks
        return None
