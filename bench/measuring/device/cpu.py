"""The CPU: wall clock, the process's own memory, and caches and limits from the system."""

from __future__ import annotations

import ctypes
import gc
import platform
import re
import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from bench.core.clock import wall_ns
from bench.measuring.device.base import Device, Profile, recorded, sdpa_kernel

_CACHES = "/sys/devices/system/cpu/cpu0/cache"
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


class Cpu(Device):
    """The processor that this process runs on."""

    kind = "cpu"
    shares_cores = True

    @classmethod
    def present(cls) -> tuple[str, ...]:
        """See `Device`."""
        return ("cpu",)

    @property
    def title(self) -> str:
        """Name of the processor's model, with further facts if names are ambiguous.

        Virtual machines of several generations have one name, such as ``AMD EPYC``. If it has no
        number, family and model follow; ``AVX2`` follows if torch uses no wider vectors.
        """
        told = _cpu_info()
        name = told.get("model name") or platform.processor() or platform.machine()
        if not re.search(r"\d", name):
            family, model = told.get("cpu family"), told.get("model")
            name += f" family {family} model {model}" if family and model else ""
        vectors = vector_instructions()
        return f"{name} ({vectors})" if vectors == "AVX2" else name

    def time_calls(self, call: Callable[[], object], count: int) -> float:
        """See `Clock`; wall time, because calls have finished when they return."""
        read = wall_ns
        start = read()
        for _ in range(count):
            call()
        return (read() - start) / 1e9

    def profile(self, call: Callable[[], object]) -> Profile:
        """See `Device`; the peak is an exact sum over the allocator's events.

        Scratch memory of fused operators is included.
        """
        current = peak = 0
        events = recorded(call, memory=True)
        for event in events:
            if event.name() == "[memory]":
                current += event.nbytes()
                peak = max(peak, current)
        return Profile(peak_bytes=peak, sdpa_kernel=sdpa_kernel(e.name() for e in events))

    def resident_peak_bytes(self, call: Callable[[], object]) -> int | None:
        """See `Device`; the less of two calls, by the system's counters.

        These include memory that is not torch's. They are right to a few per cent above 30 MiB;
        below, pages and memory that the allocator keeps dominate. To be taken in a fresh process
        after a first call. None without the counters, as outside of Linux.
        """
        trim = _trim()
        if trim is None:
            return None
        gc.collect()
        # A BLAS library allocates scratch memory of tens of MiB for each thread at the first
        # product in which the thread takes part. On a busy machine that can be as late as here.
        # It belongs to the process, not to the call, and the second call has it already.
        try:
            rises = [_resident_rise_bytes(call, trim) for _ in range(2)]
        except OSError:
            return None
        return min((rise for rise in rises if rise is not None), default=None)

    def held_bytes(self) -> int | None:
        """See `Device`; the resident size."""
        trim = _trim()
        if trim is None:
            return None
        trim(0)
        return _status_bytes("VmRSS")

    def free_bytes(self) -> int:
        """See `Device`."""
        import psutil

        return min(int(psutil.virtual_memory().available), _container_free_bytes())

    def limit_memory(self) -> None:
        """See `Device`; on Linux.

        An allocation then raises an error that can be caught, while the kernel would kill a
        process, and not always this one. Only writable private memory is limited, so neither
        libraries nor address space that a card's driver reserves count.
        """
        own = _private_bytes()
        if sys.platform != "linux" or own is None:
            return
        limit = own + self.free_bytes()
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if hard != resource.RLIM_INFINITY:
            limit = min(limit, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))

    def cache_levels_bytes(self) -> tuple[int, ...]:
        """See `Device`."""
        levels: dict[int, int] = {}
        for folder in Path(_CACHES).glob("index*"):
            try:
                level, size = int((folder / "level").read_text()), size_of(folder / "size")
            except (OSError, ValueError):
                continue
            if level >= 2 and size:
                levels[level] = max(size, levels.get(level, 0))
        return tuple(sorted(levels.values())) or super().cache_levels_bytes()

    def why_not_compiled(self) -> str | None:
        """See `Device`."""
        if shutil.which("g++") or shutil.which("clang++"):
            return None
        return "inductor needs a C++ compiler (g++), which is not installed."


def size_of(file: Path) -> int:
    """Bytes of a size such as ``512K`` in a file of the system; 0 if it cannot be read."""
    try:
        match = re.fullmatch(r"(\d+)([KMG]?)", file.read_text().strip())
    except OSError:
        return 0
    return int(match[1]) * _UNITS[match[2]] if match else 0


def vector_instructions() -> str:
    """Vector instructions that torch uses: ``AVX512``, ``AVX2``, or the baseline, ``DEFAULT``."""
    import torch

    return str(torch.backends.cpu.get_cpu_capability())


def memory_limit_bytes() -> int:
    """All memory of the machine, or of the container if that is less."""
    import psutil

    total = int(psutil.virtual_memory().total)
    limit = _read_int("/sys/fs/cgroup/memory.max")
    return min(total, limit) if limit is not None else total


def _cpu_info() -> dict[str, str]:
    """Linux's description of the first processor, by its keywords; empty elsewhere."""
    try:
        first, *_ = Path("/proc/cpuinfo").read_text().split("\n\n")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {word.strip(): value.strip() for word, _, value in pairs}


def _resident_rise_bytes(call: Callable[[], object], trim: Callable[[int], int]) -> int | None:
    trim(0)  # else the call would reuse memory that earlier ones have left behind
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak to the resident size now
    before = _status_bytes("VmHWM")
    call()
    after = _status_bytes("VmHWM")
    return None if before is None or after is None else after - before


def _trim() -> Callable[[int], int] | None:
    """Function of glibc that returns free memory to the system; None without glibc."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return getattr(libc, "malloc_trim", None)


def _private_bytes() -> int | None:
    try:
        return _status_bytes("VmData")
    except OSError:
        return None


def _status_bytes(name: str) -> int | None:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
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
