"""Facts of a machine beyond its name: caches, clock, limits, and the libraries' build.

They are stored with the records, to explain later why two machines with the same name differ, and
decide nothing. Facts that a system does not give are left out.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from bench.measuring.device import device_named
from bench.measuring.device.cpu import size_of, vector_instructions

ROOT = Path("/")


def describe(devices: tuple[str, ...], root: Path = ROOT) -> dict[str, Any]:
    """Describe this machine.

    `devices` are those measured, by torch's names.

    Returns:
        The known ones among ``caches_bytes`` (by level and type, as one core sees them),
        ``frequency_governor``, ``max_frequency_mhz``, ``frequency_mhz`` (of each core now),
        ``huge_pages``, ``container_cores`` and ``container_memory_bytes`` (limits, if any),
        ``blas``, ``parallel_backend``, ``vector_instructions`` and ``cuda_driver``.
    """
    found = {
        "caches_bytes": _caches(root / "sys/devices/system/cpu/cpu0/cache"),
        **_frequency(root),
        "huge_pages": _chosen(root / "sys/kernel/mm/transparent_hugepage/enabled"),
        **_container(root),
        **_torch_build(),
        "cuda_driver": next(filter(None, (device_named(name).driver for name in devices)), None),
    }
    return {name: value for name, value in found.items() if value}


def _caches(folder: Path) -> dict[str, int]:
    sizes = {}
    for index in sorted(folder.glob("index*")):
        level, kind = (_read(index / name) for name in ("level", "type"))
        if level and kind and (size := size_of(index / "size")):
            letter = {"Data": "d", "Instruction": "i"}.get(kind, "")
            sizes[f"L{level}{letter}"] = size
    return sizes


def _frequency(root: Path) -> dict[str, Any]:
    folder = root / "sys/devices/system/cpu/cpu0/cpufreq"
    most = _read(folder / "cpuinfo_max_freq")  # in kHz
    now = re.findall(r"^cpu MHz\s*:\s*([\d.]+)", _read(root / "proc/cpuinfo") or "", re.M)
    return {
        "frequency_governor": _read(folder / "scaling_governor"),
        "max_frequency_mhz": int(most) / 1000 if most and most.isdigit() else None,
        "frequency_mhz": [round(float(mhz)) for mhz in now],
    }


def _chosen(file: Path) -> str | None:
    """The word in brackets of ``always [madvise] never``."""
    found = re.search(r"\[(\w+)\]", _read(file) or "")
    return found[1] if found else None


def _container(root: Path) -> dict[str, Any]:
    quota = (_read(root / "sys/fs/cgroup/cpu.max") or "").split()
    memory = _read(root / "sys/fs/cgroup/memory.max") or ""
    has_quota = len(quota) == 2 and all(word.isdigit() for word in quota)
    return {
        "container_cores": int(quota[0]) / int(quota[1]) if has_quota else None,
        "container_memory_bytes": int(memory) if memory.isdigit() else None,
    }


def _torch_build() -> dict[str, Any]:
    import torch

    built, parallel = torch.__config__.show(), torch.__config__.parallel_info()
    patterns = {
        "blas": (r"BLAS_INFO=(\w+)", built),
        "parallel_backend": (r"ATen parallel backend: (.+)", parallel),
    }
    matches = {name: re.search(*words) for name, words in patterns.items()}
    told = {name: match[1] if match else None for name, match in matches.items()}
    return told | {"vector_instructions": vector_instructions()}


def _read(file: Path) -> str | None:
    try:
        return file.read_text().strip()
    except OSError:
        return None
