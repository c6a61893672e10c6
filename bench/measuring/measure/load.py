"""Load by other programs while a block was timed. It flags a record, and never fails it."""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.core.clock import now_s

MAX_FOREIGN_CORES = 0.25
MAX_STEAL_SHARE = 0.02


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Counters of the machine and of this process; None where the system has no such counter."""

    wall_s: float
    own_cpu_s: float
    busy_s: float
    steal_s: float
    involuntary_switches: int
    migrations: int | None


def snapshot() -> Snapshot:
    """Read the counters of the machine and of this process."""
    times = psutil.cpu_times()
    steal = float(getattr(times, "steal", 0.0))
    idle = times.idle + float(getattr(times, "iowait", 0.0))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return Snapshot(
        wall_s=now_s(),
        own_cpu_s=usage.ru_utime + usage.ru_stime,
        busy_s=sum(times[:8]) - idle - steal,
        steal_s=steal,
        involuntary_switches=usage.ru_nivcsw,
        migrations=_migrations(),
    )


def _migrations() -> int | None:
    try:
        text = Path("/proc/self/sched").read_text()
    except OSError:
        return None
    lines = [line for line in text.splitlines() if line.startswith("se.nr_migrations")]
    return int(lines[0].partition(":")[2]) if lines else None


def between(before: Snapshot, after: Snapshot) -> dict[str, float]:
    """Load between two moments.

    Returns:
        ``foreign_cores``: number of cores that other programs kept busy; ``steal_share``: share of
        all cores' time that the hypervisor took; ``involuntary_switches_per_s``; ``migrations``
        between cores, if known; ``load_average`` over the last minute.
    """
    wall_s = max(after.wall_s - before.wall_s, 1e-9)
    own_s = after.own_cpu_s - before.own_cpu_s
    num_cores = os.cpu_count() or 1
    load = {
        "foreign_cores": max(0.0, (after.busy_s - before.busy_s - own_s) / wall_s),
        "steal_share": (after.steal_s - before.steal_s) / wall_s / num_cores,
        "involuntary_switches_per_s": (after.involuntary_switches - before.involuntary_switches)
        / wall_s,
        "load_average": os.getloadavg()[0],
    }
    if before.migrations is not None and after.migrations is not None:
        load["migrations"] = float(after.migrations - before.migrations)
    return {name: round(value, 4) for name, value in load.items()}


def is_noisy(load: dict[str, float]) -> bool:
    """Whether others used a quarter of a core, or the hypervisor took 2 % of the machine."""
    return load["foreign_cores"] > MAX_FOREIGN_CORES or load["steal_share"] > MAX_STEAL_SHARE
