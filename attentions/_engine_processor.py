"""What the engine must know of the processor that it runs on."""

from __future__ import annotations

import functools
import platform
import re
from pathlib import Path

import torch

_INTEL = "GenuineIntel"
_AMD = "AuthenticAMD"
_HALVING_FAMILY = re.compile(r"cpu family\s*:\s*25$|Family 25 ", re.MULTILINE)
"""Of AMD, with AVX-512: Zen 4, in the words of Linux and of Windows."""


@functools.cache
def has_wide_vectors() -> bool:
    """Whether torch computes with AVX-512 here, with which an exponential takes half as long."""
    return torch.backends.cpu.get_cpu_capability() == "AVX512"


@functools.cache
def halves_wide_vectors() -> bool:
    """Whether vectors of 512 bits are computed in two halves, as fast as two of 256 bits."""
    told = _description()
    return has_wide_vectors() and _AMD in told and _HALVING_FAMILY.search(told) is not None


@functools.cache
def is_intel() -> bool:
    """Whether MKL uses all that the processor has."""
    return _INTEL in _description()


def _description() -> str:
    """Vendor and family: Linux has them in a file, Windows in the processor's name."""
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
