"""What the engine must know of the processor that it runs on."""

from __future__ import annotations

import functools
import platform
from pathlib import Path

import torch

_INTEL = "GenuineIntel"


@functools.cache
def has_wide_vectors() -> bool:
    """Whether torch computes with AVX-512 here, with which an exponential takes half as long."""
    return torch.backends.cpu.get_cpu_capability() == "AVX512"


@functools.cache
def is_intel() -> bool:
    """Whether MKL uses all that the processor has: Linux says so in a file, Windows in its name."""
    try:
        return _INTEL in Path("/proc/cpuinfo").read_text()
    except OSError:
        return _INTEL in platform.processor()
