"""Everything that is asked of a device, with the answers of one of which nothing is known."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from bench.core.cell import DTYPES
from bench.core.cli.texts import said_by

if TYPE_CHECKING:
    import torch

FALLBACK_CACHE_BYTES = 64 * 2**20
_SIDE = 8
_SDPA = re.compile(r"aten::_scaled_dot_product_(?:(\w+?)_attention|attention_(math))")
"""Operators that `scaled_dot_product_attention` may choose, by the profiler's names."""


class Clock(Protocol):
    """Times a number of calls; every device is one."""

    def time_calls(self, call: Callable[[], object], count: int) -> float:
        """Seconds that `count` calls took together, all of their work finished."""
        ...


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Findings of a call under torch's profiler.

    Attributes:
        peak_bytes: allocated at its peak, above what was allocated before; None where unknown.
        sdpa_kernel: implementations that `scaled_dot_product_attention` took, such as ``flash``
            or ``flash, math``; None of a call that does not call it.
    """

    peak_bytes: int | None
    sdpa_kernel: str | None


@dataclass(frozen=True)
class Device:
    """A device by torch's name for it, such as ``cpu`` or ``cuda:0``. It is a `Clock`.

    Attributes:
        kind: its type, as capabilities and checkpoints name it.
        is_host: whether a call has finished when it returns, in this process's own memory.
    """

    name: str
    kind: ClassVar[str] = ""
    is_host: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.name == self.kind and not self.is_host:  # the first of them
            object.__setattr__(self, "name", f"{self.name}:0")

    @classmethod
    def present(cls) -> tuple[str, ...]:
        """Names of all devices of this kind that are here."""
        return ()

    @property
    def place(self) -> torch.device:
        """Where its tensors lie."""
        import torch

        return torch.device(self.name)

    @property
    def title(self) -> str:
        """Name of the model, as records have it."""
        return self.name

    @property
    def identity(self) -> str:
        """Identity on this host, the same in every process."""
        return self.name

    @property
    def driver(self) -> str | None:
        """Version of its driver; None without one."""
        return None

    @property
    def properties(self) -> Any:
        """Torch's properties of a card; None of another device."""
        return None

    def time_calls(self, call: Callable[[], object], count: int) -> float:
        """See `Clock`.

        Raises:
            NotImplementedError: no clock sees its work.
        """
        raise NotImplementedError(f"No clock sees the work of {self.name}.")

    def synchronize(self) -> None:
        """Wait until all work is finished."""

    def profile(self, call: Callable[[], object]) -> Profile:
        """Profile one call, which is not timed meanwhile."""
        events = recorded(call, memory=False)
        return Profile(peak_bytes=None, sdpa_kernel=sdpa_kernel(e.name() for e in events))

    def resident_peak_bytes(self, call: Callable[[], object]) -> int | None:
        """Bytes by which the process's resident size rose at the peak of one call, or None."""
        return None

    def held_bytes(self) -> int | None:
        """Bytes that this process holds between calls; None where unknown."""
        return None

    def leaked_bytes(self, call: Callable[[], object], num_calls: int) -> int | None:
        """Bytes that the process keeps of each call, the less of two looks; None where unknown."""
        kept = []
        for _ in range(2):
            before = self.held_bytes()
            if before is None:
                return None
            for _ in range(num_calls):
                call()
            gc.collect()
            after = self.held_bytes()
            if after is None:
                return None
            kept.append((after - before) // num_calls)
        return max(0, min(kept))

    def free_bytes(self) -> int:
        """Memory that a cell could still get: what is free now on a CPU, all of a card's."""
        return 0

    def limit_memory(self) -> None:
        """Make an allocation beyond what is free now fail in this process, where need be."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether an exception says that memory ran out, in any of torch's ways to say it."""
        import torch

        if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
            return True
        text = said_by(error).lower()
        return isinstance(error, RuntimeError) and (
            "can't allocate memory" in text or "out of memory" in text or "bad_alloc" in text
        )

    def cache_levels_bytes(self) -> tuple[int, ...]:
        """Sizes of the caches from the second level on, as far as one thread has them; rising.

        Of a card the one that all multiprocessors share. 64 MiB where none can be read.
        """
        return (FALLBACK_CACHE_BYTES,)

    def flusher(self) -> Callable[[], None]:
        """A call that writes twice the last cache, to be made outside of what is timed."""
        import torch

        size = 2 * self.cache_levels_bytes()[-1] // 4
        buffer, waits = torch.zeros(size, device=self.place), not self.is_host

        def flush() -> None:
            buffer.add_(1.0)
            if waits:
                self.synchronize()

        return flush

    def stream_state(self) -> dict[str, torch.Tensor]:
        """States of torch's global streams of random numbers, the CPU's among them."""
        import torch

        return {"cpu": torch.get_rng_state()}

    def restore_streams(self, state: dict[str, torch.Tensor]) -> None:
        """Go on from a `stream_state`."""
        import torch

        torch.set_rng_state(state["cpu"].cpu())

    def readings(self) -> dict[str, float]:
        """Clocks, power and temperature now, outside of what is timed; empty where unknown."""
        return {}

    def energy_j(self, call: Callable[[], object]) -> float | None:
        """Joules of a call, by many of them: all that a card draws; None where no meter is."""
        return None

    def why_no_dtype(self, dtype: str) -> str | None:
        """A sentence saying what it lacks for a dtype, and which it computes in; None if nothing.

        Tried once per process and dtype, on a tiny product.

        Args:
            dtype: the name of a floating-point dtype of torch.
        """
        problem = _problem(self, dtype)
        if problem is None:
            return None
        able = ", ".join(name for name in DTYPES if _problem(self, name) is None)
        return f"{self.name} does not compute in {dtype}: {problem} It computes in {able}."

    def imitates(self, dtype: str) -> str | None:
        """Why it computes in a dtype only by software, a clause; None if it does not."""
        return None

    def try_out(self, dtype: str) -> None:
        """A tiny product and a softmax, which is what attention takes of any device.

        Raises:
            RuntimeError, TypeError: torch has no kernel for the pair.
        """
        import torch

        x = torch.ones(_SIDE, _SIDE, dtype=getattr(torch, dtype), device=self.place)
        (x @ x).softmax(dim=-1).sum().item()  # reading a number waits for the device


@cache
def _problem(device: Device, dtype: str) -> str | None:
    if dtype == "float32":  # without it nothing can be checked, so nobody is without
        return None
    if imitated := device.imitates(dtype):
        return imitated
    try:
        device.try_out(dtype)
    except (RuntimeError, TypeError) as error:  # a missing kernel is the one; MPS raises the other
        if device.is_out_of_memory(error):
            return None  # which says nothing of the dtype
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return f"torch says {said.rstrip('.')!r}."
    return None


def recorded(call: Callable[[], object], *, memory: bool) -> list[Any]:
    """Events that torch's profiler saw in one call, allocations among them if asked."""
    import torch

    gc.collect()
    activities = [torch.profiler.ProfilerActivity.CPU]  # where operators of any device are called
    with torch.profiler.profile(activities=activities, profile_memory=memory) as profiler:
        result = call()
    del result
    assert profiler.profiler is not None and profiler.profiler.kineto_results is not None
    return list(profiler.profiler.kineto_results.events())


def sdpa_kernel(names: Iterable[str]) -> str | None:
    """See `Profile`; from the names of all operators of a call."""
    matches = {match[1] or match[2] for match in map(_SDPA.match, set(names)) if match}
    return ", ".join(sorted(matches)) or None


def _switches() -> Any:
    from torch.backends import cuda  # so called, and of the CPU's kernels as well

    return cuda


def allowed_sdpa() -> tuple[bool, bool, bool]:
    """Whether SDPA may take its flash, its memory-efficient and its plain kernel, on any device."""
    on = _switches()
    return on.flash_sdp_enabled(), on.mem_efficient_sdp_enabled(), on.math_sdp_enabled()


def allow_sdpa(values: tuple[bool, bool, bool]) -> None:
    """The inverse of `allowed_sdpa`."""
    _switches().enable_flash_sdp(values[0])
    _switches().enable_mem_efficient_sdp(values[1])
    _switches().enable_math_sdp(values[2])
