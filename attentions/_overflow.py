"""What the processor notes by itself: that some result since was no number.

IEEE 754 has a flag for overflow, one for operations without a result, one for divisions by zero.
They stay until somebody clears them, each thread of the system has its own, and to read them takes
less than a microsecond, where a look at a tensor takes tens. So the flags say when to look.

They are no proof by themselves. Other work raises them too. And vectorised exponentials of torch's
do not, nor conversions to half precision or products in it: `has_notes` is for float32 that one
thread computes, and callers see to exponentials.
"""

from __future__ import annotations

import ctypes
import functools
import platform
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch

from ._engine_functions import power_

_FLAGS = {"x86_64": 0x01 | 0x04 | 0x08, "aarch64": 0x01 | 0x02 | 0x04}
"""As the C libraries number them: no result, division by zero, overflow."""


class _Flags(NamedTuple):
    test: Callable[[int], int]
    clear: Callable[[int], int]
    lift: Callable[[int], int]
    mask: int


def set_aside() -> int:
    """The flags that are up in this thread, which are taken down: what follows can raise them."""
    flags = _flags()
    if flags is None:
        return 0
    up = flags.test(flags.mask)
    if up:
        flags.clear(flags.mask)
    return up


def is_noted() -> bool:
    """Whether one is up in this thread; true if nobody knows."""
    flags = _flags()
    return flags is None or flags.test(flags.mask) != 0


def bring_back(aside: int) -> None:
    """Put up again what was set aside, beside what is up: whoever is outside looks on."""
    flags = _flags()
    if aside and flags is not None:
        flags.lift(aside)


def has_notes() -> bool:
    """Whether one thread computes, and its processor notes what is no number."""
    return torch.get_num_threads() == 1 and _flags() is not None


@functools.cache
def _flags() -> _Flags | None:
    """None where there are none, or where operators of torch were seen not to tell the truth."""
    mask = _FLAGS.get(platform.machine())
    if mask is None or platform.system() != "Linux":
        return None
    try:
        library = ctypes.CDLL(None)
        functions = library.fetestexcept, library.feclearexcept, library.feraiseexcept
    except (AttributeError, OSError):
        return None
    flags = _Flags(*functions, mask)
    # In a thread of its own: modes, autocast and tracing are a caller's, and so are the flags.
    with ThreadPoolExecutor(1) as pool:
        return flags if pool.submit(_are_true, flags).result() else None


def _are_true(flags: _Flags) -> bool:
    """Whether operators of each kind raise them when they overflow, and not else.

    Without AVX-512, torch's powers of 2 raise them at exponents whose powers are nothing.
    """
    x = torch.full((64, 64), 1e30, dtype=torch.float32, device="cpu")
    overflows: tuple[Callable[[], object], ...] = (
        lambda: x * x,
        lambda: x.pow(3.3),
        lambda: x @ x,
        lambda: torch.bmm(x[None], x[None]),
        lambda: torch.full_like(x, 3e38).sum(),
        lambda: 1 / torch.zeros_like(x),
    )
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for overflow in overflows:
            flags.clear(flags.mask)
            overflow()
            if not flags.test(flags.mask):
                return False
        flags.clear(flags.mask)
        torch.zeros_like(x) @ torch.zeros_like(x)
        power_(torch.linspace(-1000, 0, 4096, dtype=torch.float32, device="cpu"))
        return not flags.test(flags.mask)
    finally:
        torch.set_num_threads(num_threads)  # new threads begin with the number last set
