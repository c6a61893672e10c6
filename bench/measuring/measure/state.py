"""State that all code of a process shares, and may leave changed for the next timed call.

Only `SETTINGS` and threads are checked: code in the same process can always cheat.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from bench.core.clock import cpu_s, now_s, put_time_functions_back, sleep_s, time_functions
from bench.measuring.device import KINDS
from bench.measuring.device.base import allow_sdpa, allowed_sdpa
from bench.measuring.measure import attributes

_DENORMAL = 5e-324
_NAP_S = 0.005
_NUM_NAPS = 3
_BUSY = 0.2
"""CPU time over wall time of a short sleep above which another thread computes; low, because on a
busy machine a thread gets only a part of a core."""


@dataclass(frozen=True)
class Setting:
    """One global setting.

    Attributes:
        get: returns its value; fast, since it is called after every turn.
        words: describes two values that differ, instead of the name.
    """

    name: str
    get: Callable[[], Any]
    put: Callable[[Any], object]
    words: Callable[[Any, Any], str] | None = None


def _put_deterministic(value: bool) -> None:
    torch.use_deterministic_algorithms(value)


def _modes() -> tuple[int, int]:
    # A default device is a mode as well, and any mode costs every operator a few microseconds.
    return torch._C._len_torch_function_stack(), torch._C._len_torch_dispatch_stack()


def _put_modes(counts: tuple[int, int]) -> None:
    torch.set_default_device(None)
    while torch._C._len_torch_function_stack() > counts[0]:
        torch._C._pop_torch_function_stack()
    while (above := torch._C._len_torch_dispatch_stack()) > counts[1]:
        mode = torch._C._get_dispatch_stack_at(above - 1)
        # The base class's own, which keeps torch's flags: a mode may override it.
        TorchDispatchMode.__exit__(mode, None, None, None)


_held: list[Any] = []
"""Contexts that end an inference mode which somebody else holds."""


def _put_inference(value: bool) -> None:
    _held.append(torch.inference_mode(value))
    _held[-1].__enter__()


def _profilers() -> tuple[Any, Any, bool]:
    autograd: Any = torch.autograd
    return sys.getprofile(), sys.gettrace(), autograd._profiler_enabled()


def _put_profilers(values: tuple[Any, Any, bool]) -> None:
    sys.setprofile(values[0])
    sys.settrace(values[1])


_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)


def _timers() -> tuple[bool, ...]:
    return tuple(signal.getitimer(which) != (0.0, 0.0) for which in _TIMERS)


def _put_timers(values: tuple[bool, ...]) -> None:
    for which, was_set in zip(_TIMERS, values, strict=True):
        if not was_set:
            signal.setitimer(which, 0)


def _autocast(device_type: str) -> Setting:
    """Autocast of one type of device; torch's flag without a type is that of CUDA alone."""
    return Setting(
        f"autocast on {device_type}",
        lambda: torch.is_autocast_enabled(device_type),
        lambda value: torch.set_autocast_enabled(device_type, value),
    )


SETTINGS = (
    Setting("the number of threads", torch.get_num_threads, torch.set_num_threads),
    Setting(
        "deterministic algorithms", torch.are_deterministic_algorithms_enabled, _put_deterministic
    ),
    Setting("the default dtype", torch.get_default_dtype, torch.set_default_dtype),
    Setting(
        "the default device, or another mode of torch",
        _modes,
        _put_modes,
    ),
    Setting("flush-denormal", lambda: _DENORMAL * 1.0 == 0.0, torch.set_flush_denormal),
    Setting(
        "the precision of float32 products",
        torch.get_float32_matmul_precision,
        torch.set_float32_matmul_precision,
    ),
    Setting("the grad mode", torch.is_grad_enabled, torch.set_grad_enabled),
    Setting("the inference mode", torch.is_inference_mode_enabled, _put_inference),
    *map(_autocast, KINDS),
    Setting("anomaly detection", torch.is_anomaly_enabled, torch.set_anomaly_enabled),
    Setting("the kernels that SDPA may take", allowed_sdpa, allow_sdpa),
    Setting("whether a profiler runs", _profilers, _put_profilers),
    Setting("functions of the module time", time_functions, put_time_functions_back),
    Setting("interval timers", _timers, _put_timers),
    Setting("attributes", attributes.snapshot, attributes.restore, attributes.words),
)


def snapshot() -> tuple[Any, ...]:
    """The values of `SETTINGS` now."""
    return tuple(setting.get() for setting in SETTINGS)


def differences(before: Sequence[Any], now: Sequence[Any]) -> str | None:
    """Differences between two snapshots, in words; None if there are none."""
    if now == before:
        return None
    triples = zip(SETTINGS, before, now, strict=True)
    return ", and ".join(_words(setting, was, new) for setting, was, new in triples if was != new)


def restore(values: Sequence[Any]) -> None:
    """Restore the values of all settings."""
    for setting, value in zip(SETTINGS, values, strict=True):
        if setting.get() != value:
            setting.put(value)


class Watch:
    """Detects which member changes state that all share.

    With `threads`, so does a thread that goes on computing: not if members have several threads of
    torch, which may spin while they wait for work.
    """

    def __init__(self, *, threads: bool) -> None:
        self._threads = threads
        self._settings: dict[str, tuple[Any, ...]] = {}
        self._starters: list[str] = []
        self._first_live = self._live = live_threads()

    def begin(self, name: str) -> None:
        """Take a snapshot for `name`: from here on, each of its turns must leave this state."""
        self._settings[name] = snapshot()

    def change(self, name: str) -> str | None:
        """Change made during a turn, as a sentence; None if there is none. Takes some microseconds.

        If there are new threads, it sleeps to see whether they compute between calls.
        """
        if changed := differences(self._settings[name], snapshot()):
            return f"{name} changed {changed}"
        live = live_threads()
        new, self._live = live - self._live, live
        if not new:
            return None
        if not self._threads:
            return None
        self._starters.append(name)
        return _left_computing(name) if computes_meanwhile() else None

    def last_change(self) -> str | None:
        """As `change`, for threads that began to compute only after the turn that started them."""
        if not self._starters or live_threads() <= self._first_live or not computes_meanwhile():
            return None
        return _left_computing(" or ".join(dict.fromkeys(self._starters)))


def _left_computing(who: str) -> str:
    return f"{who} left a thread running that computes between its calls"


def _words(setting: Setting, was: Any, new: Any) -> str:
    if setting.words is not None:
        return setting.words(was, new)
    if isinstance(was, tuple):
        return setting.name
    return f"{setting.name} from {was} to {new}"


def live_threads() -> frozenset[str]:
    """Numbers of the threads of this process; without /proc, of Python's threads alone.

    A thread that has been joined may still be among them: its number tells it from a new one.
    """
    try:
        return frozenset(os.listdir("/proc/self/task"))
    except OSError:
        return frozenset(str(thread.native_id) for thread in threading.enumerate())


def computes_meanwhile() -> bool:
    """Whether another thread uses the CPU, or waits for it, while this one sleeps; milliseconds."""
    for _ in range(_NUM_NAPS):
        cpu, wall = cpu_s(), now_s()
        sleep_s(_NAP_S)
        is_idle = cpu_s() - cpu < _BUSY * (now_s() - wall)
        if is_idle and not _others_are_runnable():
            return False
    return True


def _others_are_runnable() -> bool:
    """Whether another thread runs or waits for a core; False without /proc."""
    own = str(threading.get_native_id())
    for folder in Path("/proc/self/task").glob("*"):
        with suppress(OSError):
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            if state == "R" and folder.name != own:
                return True
    return False
