"""Interface of a device, with answers for a kind of which nothing is known."""

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
    """Times calls; every device is a clock."""

    def time_calls(self, call: Callable[[], object], count: int) -> float:
        """Seconds that `count` calls take together, until all of their work is finished."""
        ...


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Findings of a call under torch's profiler.

    Attributes:
        peak_bytes: bytes allocated at its peak, beyond those before it; None if unknown.
        sdpa_kernel: implementations that `scaled_dot_product_attention` chose, such as ``flash``
            or ``flash, math``; None if the call does not use it.
    """

    peak_bytes: int | None
    sdpa_kernel: str | None


@dataclass(frozen=True)
class Device:
    """A device by torch's name for it, such as ``cpu`` or ``cuda:0``. It is a `Clock`.

    Attributes:
        kind: its type, as in capabilities and checkpoints.
        shares_cores: whether it computes on the processor's cores, in this process's memory. Its
            calls have finished on return, threads count, and there is one, without an index.
    """

    name: str
    kind: ClassVar[str] = ""
    shares_cores: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.name == self.kind and not self.shares_cores:  # ``cuda`` is the first card
            object.__setattr__(self, "name", f"{self.name}:0")

    @classmethod
    def present(cls) -> tuple[str, ...]:
        """Names of all devices of this kind on this machine."""
        return ()

    @property
    def place(self) -> torch.device:
        """Torch's device for its tensors."""
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
        """Torch's properties of a card; None for other devices."""
        return None

    def time_calls(self, call: Callable[[], object], count: int) -> float:
        """See `Clock`.

        Raises:
            NotImplementedError: there is no clock for this kind of device.
        """
        raise NotImplementedError(f"No clock sees the work of {self.name}.")

    def synchronize(self) -> None:
        """Wait until all queued work is finished."""

    def profile(self, call: Callable[[], object]) -> Profile:
        """Profile one untimed call."""
        events = recorded(call, memory=False)
        return Profile(peak_bytes=None, sdpa_kernel=sdpa_kernel(e.name() for e in events))

    def resident_peak_bytes(self, call: Callable[[], object]) -> int | None:
        """Bytes by which the process's resident size rose at the peak of one call, or None."""
        return None

    def held_bytes(self) -> int | None:
        """Bytes that this process holds between calls; None if unknown."""
        return None

    def leaked_bytes(self, call: Callable[[], object], num_calls: int) -> int | None:
        """Bytes that the process keeps after each call, the less of two passes; None if unknown."""
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
        """Bytes that a cell could get: memory that is free now on a CPU, all memory of a card."""
        return 0

    def limit_memory(self) -> None:
        """Make allocations beyond the memory that is free now fail, where a device does not so."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether an exception means that memory ran out; torch has several types and texts."""
        import torch

        if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
            return True
        text = said_by(error).lower()
        return isinstance(error, RuntimeError) and (
            "can't allocate memory" in text or "out of memory" in text or "bad_alloc" in text
        )

    def cache_levels_bytes(self) -> tuple[int, ...]:
        """Sizes of the caches from the second level on, in bytes, as one thread sees them; rising.

        For a card, the cache that all multiprocessors share. 64 MiB if none can be read.
        """
        return (FALLBACK_CACHE_BYTES,)

    def flusher(self) -> Callable[[], None]:
        """A function that flushes the caches by writing twice the size of the last one."""
        import torch

        size = 2 * self.cache_levels_bytes()[-1] // 4
        buffer, waits = torch.zeros(size, device=self.place), not self.shares_cores

        def flush() -> None:
            buffer.add_(1.0)
            if waits:
                self.synchronize()

        return flush

    def stream_state(self) -> dict[str, torch.Tensor]:
        """States of torch's global random number generators, the CPU's included."""
        import torch

        return {"cpu": torch.get_rng_state()}

    def restore_streams(self, state: dict[str, torch.Tensor]) -> None:
        """Restore the generators from a `stream_state`."""
        import torch

        torch.set_rng_state(state["cpu"].cpu())

    def readings(self) -> dict[str, float]:
        """Clocks, power and temperature now, by name with its unit; empty if unknown."""
        return {}

    def energy_j(self, call: Callable[[], object]) -> float | None:
        """Joules that a card draws in a call, the mean of many calls; None without a meter."""
        return None

    def why_no_dtype(self, dtype: str) -> str | None:
        """Why it does not compute in a dtype, and which it computes in; None if it does.

        Tried once per process and dtype, on a tiny product.
        """
        problem = _problem(self, dtype)
        if problem is None:
            return None
        able = ", ".join(name for name in DTYPES if _problem(self, name) is None)
        return f"{self.name} does not compute in {dtype}: {problem} It computes in {able}."

    def imitates(self, dtype: str) -> str | None:
        """Why it only emulates a dtype in software, as a clause; None if it does not."""
        return None

    def why_not_compiled(self) -> str | None:
        """Why inductor cannot compile for it, as a sentence; None if it can."""
        return None

    def try_out(self, dtype: str) -> None:
        """Run a tiny product and a softmax, which attention needs on any device.

        Raises:
            RuntimeError, TypeError: torch has no kernel for this dtype on this device.
        """
        import torch

        x = torch.ones(_SIDE, _SIDE, dtype=getattr(torch, dtype), device=self.place)
        (x @ x).softmax(dim=-1).sum().item()  # reading a number waits for the device


@cache
def _problem(device: Device, dtype: str) -> str | None:
    if dtype == "float32":  # every device has it
        return None
    if imitated := device.imitates(dtype):
        return imitated
    try:
        device.try_out(dtype)
    except (RuntimeError, TypeError) as error:  # MPS raises TypeError, the others RuntimeError
        if device.is_out_of_memory(error):
            return None  # no evidence against the dtype
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return f"torch says {said.rstrip('.')!r}."
    return None


def recorded(call: Callable[[], object], *, memory: bool) -> list[Any]:
    """Events of one call by torch's profiler; with `memory`, allocations among them."""
    import torch

    gc.collect()
    activities = [torch.profiler.ProfilerActivity.CPU]  # operators of all devices start there
    with torch.profiler.profile(activities=activities, profile_memory=memory) as profiler:
        result = call()
    del result
    assert profiler.profiler is not None and profiler.profiler.kineto_results is not None
    return list(profiler.profiler.kineto_results.events())


def sdpa_kernel(names: Iterable[str]) -> str | None:
    """`Profile.sdpa_kernel`, from the names of all operators of a call."""
    matches = {match[1] or match[2] for match in map(_SDPA.match, set(names)) if match}
    return ", ".join(sorted(matches)) or None


def _switches() -> Any:
    from torch.backends import cuda  # its switches hold for the CPU's kernels as well

    return cuda


def allowed_sdpa() -> tuple[bool, bool, bool]:
    """Whether SDPA may take its flash, memory-efficient and math kernel, on any device."""
    on = _switches()
    return on.flash_sdp_enabled(), on.mem_efficient_sdp_enabled(), on.math_sdp_enabled()


def allow_sdpa(values: tuple[bool, bool, bool]) -> None:
    """The inverse of `allowed_sdpa`."""
    _switches().enable_flash_sdp(values[0])
    _switches().enable_mem_efficient_sdp(values[1])
    _switches().enable_math_sdp(values[2])
