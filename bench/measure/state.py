"""What all code of a process shares, and may leave changed to whoever is timed next.

The list of `SETTINGS` is the whole promise: code in the same process can always lie.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from bench.measure.clock import cpu_s, now_s, put_time_functions_back, sleep_s, time_functions

_DENORMAL = 5e-324
_NAP_S = 0.005
_NUM_NAPS = 3
_BUSY = 0.2
"""CPU time over wall time of a nap above which somebody else computes: a busy machine leaves a
thread no more than a part of a core."""


@dataclass(frozen=True)
class Setting:
    """One thing that is global.

    Attributes:
        name: in words.
        get: its value now; cheap, since it is asked after every turn.
        put: gives it a value again; None where nothing can.
    """

    name: str
    get: Callable[[], Any]
    put: Callable[[Any], object] | None = None


def _put_deterministic(value: bool) -> None:
    torch.use_deterministic_algorithms(value)


def _put_scaled_products(values: tuple[bool, bool, bool]) -> None:
    cuda = torch.backends.cuda
    cuda.enable_flash_sdp(values[0])
    cuda.enable_mem_efficient_sdp(values[1])
    cuda.enable_math_sdp(values[2])


def _scaled_products() -> tuple[bool, bool, bool]:
    cuda: Any = torch.backends.cuda
    return cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled()


def _modes() -> tuple[int, int]:
    # A default device is such a mode, and any mode costs every operator a few microseconds.
    return torch._C._len_torch_function_stack(), torch._C._len_torch_dispatch_stack()


SETTINGS = (
    Setting("the number of threads", torch.get_num_threads, torch.set_num_threads),
    Setting(
        "deterministic algorithms", torch.are_deterministic_algorithms_enabled, _put_deterministic
    ),
    Setting("the default dtype", torch.get_default_dtype, torch.set_default_dtype),
    Setting(
        "the default device, or another mode of torch",
        _modes,
        lambda _: torch.set_default_device(None),
    ),
    Setting("flush-denormal", lambda: _DENORMAL * 1.0 == 0.0, torch.set_flush_denormal),
    Setting(
        "the precision of float32 products",
        torch.get_float32_matmul_precision,
        torch.set_float32_matmul_precision,
    ),
    Setting("the grad mode", torch.is_grad_enabled, torch.set_grad_enabled),
    Setting("the inference mode", torch.is_inference_mode_enabled),
    Setting("autocast", torch.is_autocast_enabled, torch.set_autocast_enabled),
    Setting("anomaly detection", torch.is_anomaly_enabled, torch.set_anomaly_enabled),
    Setting("the kernels that SDPA may take", _scaled_products, _put_scaled_products),
    Setting("functions of the module time", time_functions, put_time_functions_back),
)


def look() -> tuple[Any, ...]:
    """The values of `SETTINGS` now."""
    return tuple(setting.get() for setting in SETTINGS)


def put_back(values: Sequence[Any]) -> None:
    """Give all settings the values that they had, where that is possible."""
    for setting, value in zip(SETTINGS, values, strict=True):
        if setting.put is not None and setting.get() != value:
            setting.put(value)


class Guard:
    """Global state as it is now, which a member has to leave as it found it.

    Args:
        watch_threads: whether a thread that goes on computing is a change. Not for members with
            several threads of torch, which may wait for their next work by computing.
    """

    def __init__(self, *, watch_threads: bool) -> None:
        self._before = look()
        self._watch_threads = watch_threads
        self._first_live = self._live = live_threads() if watch_threads else 0

    def change(self, *, is_last: bool = False) -> str | None:
        """What was changed since, in words that follow a name; None if nothing was.

        Some microseconds. New threads are given a nap to show whether they compute without being
        asked to; those that do not are looked at again at the last time.
        """
        now = look()
        if now != self._before:
            pairs = zip(SETTINGS, self._before, now, strict=True)
            changed = [_words(setting, was, new) for setting, was, new in pairs if was != new]
            return f"changed {', and '.join(changed)}"
        if not self._watch_threads:
            return None
        live = live_threads()
        is_new = live > (self._first_live if is_last else self._live)
        self._live = live
        if is_new and computes_meanwhile():
            return "left a thread running that computes between its calls"
        return None


def _words(setting: Setting, was: Any, new: Any) -> str:
    if isinstance(was, tuple):
        return setting.name
    return f"{setting.name} from {was} to {new}"


def live_threads() -> int:
    """Threads of this process; of Python alone where the system does not tell."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return threading.active_count()


def computes_meanwhile() -> bool:
    """Whether this process uses the CPU while the caller does nothing; some milliseconds."""
    for _ in range(_NUM_NAPS):
        cpu, wall = cpu_s(), now_s()
        sleep_s(_NAP_S)
        if cpu_s() - cpu < _BUSY * (now_s() - wall):
            return False
    return True
