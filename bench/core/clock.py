"""The only module that reads the time: wall clock, CPU time and dates.

Functions of `time` are bound when this file is imported, before any plugin is: replacing one
afterwards changes no measurement, and `time_functions` shows that it was replaced.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path

wall_ns = time.perf_counter_ns
_cpu_ns = time.process_time_ns
_unix_s = time.time
sleep_s = time.sleep
_NAMES = (
    *("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"),
    *("process_time", "process_time_ns", "thread_time", "thread_time_ns", "sleep"),
)


def now_s() -> float:
    """Seconds of a monotonic clock; only differences mean anything."""
    return wall_ns() / 1e9


def cpu_s() -> float:
    """CPU time of all threads of this process; only differences mean anything."""
    return _cpu_ns() / 1e9


def time_functions() -> tuple[object, ...]:
    """The functions of the module `time` as they are now."""
    return tuple(getattr(time, name, None) for name in _NAMES)


def put_time_functions_back(functions: tuple[object, ...]) -> None:
    """Restore the functions that `time_functions` gave earlier."""
    for name, function in zip(_NAMES, functions, strict=True):
        setattr(time, name, function)


def unix_s() -> float:
    """Seconds since 1970, as in the times of files; jumps when the clock is set."""
    return _unix_s()


def process_age_s() -> float:
    """Seconds since this process was started, all imports included."""
    try:
        facts = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - int(facts[19]) / os.sysconf("SC_CLK_TCK")
    except (AttributeError, OSError):  # not Linux
        import psutil

        age_s = _unix_s() - float(psutil.Process().create_time())
    return max(0.0, age_s)


def utc_now() -> str:
    """The date and time, UTC, ISO 8601 to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def utc_stamp() -> str:
    """The date and time, UTC, fit for a file name: ``20260131T235959``."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
