"""Ceilings of a machine: its fastest matrix products and copies in a measurement.

A ceiling is the best of all samples, where a latency is their median: a momentary slowdown is no
property of the machine.

The library of a product matters more than its shape. Torch has two for CPUs, and `torch.mm` uses
only one of them: MKL's float32 keeps to AVX2 on processors that are not Intel's, where oneDNN's
uses AVX-512. A mechanism may use either, so a ceiling from one of them alone is too low.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bench.measuring.device import Clock, Device

_MIN_SAMPLES, _MAX_SAMPLES = 3, 100


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """Best rates of one device in one dtype with one number of threads.

    Attributes:
        flops_per_s: rate of the fastest matrix product; one multiply-add is 2 FLOPs.
        product: its rows, inner size and columns.
        library: its library, `MM` or `ONEDNN`.
        library_flops_per_s: rate of the fastest product of each library that was tried.
        bytes_per_s: rates of copies, bytes read and written together, by the number of bytes that
            a copy touches: within each level of cache from the second on, last beyond all of them.
    """

    flops_per_s: float
    product: Shape
    library: str
    library_flops_per_s: tuple[tuple[str, float], ...]
    bytes_per_s: tuple[tuple[int, float], ...]


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How long each product and copy is tried.

    Attributes:
        min_sample_s: shortest duration of a sample, in seconds.
        budget_s: seconds after which no more samples are taken.
        max_call_s: longest expected call, in seconds. Larger products are left out: they are
            hardly faster than smaller ones.
    """

    min_sample_s: float
    budget_s: float
    max_call_s: float


THOROUGH = Effort(min_sample_s=0.005, budget_s=0.15, max_call_s=0.25)
GLANCE = Effort(min_sample_s=0.0005, budget_s=0.01, max_call_s=0.005)
"""Half a second in all. Other programs hardly disturb samples this short."""


def measure_ceiling(
    device: Device, dtype: torch.dtype, clock: Clock, effort: Effort = THOROUGH
) -> Ceiling:
    """Measure products and copies; with `GLANCE`, no copies beyond the caches.

    Raises:
        RuntimeError: the device has no product of this dtype.
    """
    best: dict[str, tuple[float, Shape]] = {}
    for library, make in product_makers(device, dtype).items():
        rates = _product_rates(make, clock, effort)
        best[library] = max((rate, shape) for shape, rate in rates)
    library = max(best, key=lambda name: best[name])
    rate, product = best[library]
    sizes = _copied_bytes(device)[: -1 if effort is GLANCE else None]
    copies = [(size, copy_rate(size, device.place, dtype, clock, effort)) for size in sizes]
    return Ceiling(
        flops_per_s=rate,
        product=product,
        library=library,
        library_flops_per_s=tuple((name, rate) for name, (rate, _) in best.items()),
        bytes_per_s=tuple(copies),
    )


def _product_rates(
    make: Callable[[Shape], Call], clock: Clock, effort: Effort
) -> Iterator[tuple[Shape, float]]:
    """FLOPs per second of each shape, but for those that would take longer than `max_call_s`."""
    fastest = 0.0
    for shape in SHAPES:
        flops = 2 * math.prod(shape)
        if fastest and flops / fastest > effort.max_call_s:
            continue
        rate = flops / shortest_s(make(shape), clock, effort)
        fastest = max(fastest, rate)
        yield shape, rate


def _copied_bytes(device: Device) -> list[int]:
    """Bytes of the copies: half of each cache, which then holds both sides; 4 times the last."""
    levels = device.cache_levels_bytes()
    return [*(size // 2 for size in levels), 4 * levels[-1]]


def copy_rate(
    num_bytes: int,
    device: torch.device,
    dtype: torch.dtype,
    clock: Clock,
    effort: Effort = THOROUGH,
) -> float:
    """Bytes per second of a copy that reads half of `num_bytes` and writes the other half."""
    count = num_bytes // 2 // dtype.itemsize
    source = torch.ones(count, device=device, dtype=dtype)
    target = torch.zeros_like(source)
    seconds = shortest_s(lambda: target.copy_(source), clock, effort)
    return 2 * count * dtype.itemsize / seconds


def shortest_s(call: Callable[[], object], clock: Clock, effort: Effort = THOROUGH) -> float:
    """Seconds per call of the fastest sample, of at least three, and more within the budget."""
    once = min(clock.time_calls(call, 1) for _ in range(2))  # the first one also warms up
    count = max(1, math.ceil(effort.min_sample_s / once)) if once > 0 else 1000
    samples: list[float] = []
    while len(samples) < _MIN_SAMPLES or (
        sum(samples) < effort.budget_s and len(samples) < _MAX_SAMPLES
    ):
        samples.append(clock.time_calls(call, count))
    return min(samples) / count


SHAPES = (
    *((size, size, size) for size in (256, 512, 1024, 2048, 4096, 8192)),
    # Scores of 1024 and 4096 tokens with a head of 64 channels, and the weighted sum of values.
    *((size, 64, size) for size in (1024, 4096)),
    *((size, size, 64) for size in (1024, 4096)),
    # A tile of tokens of linear attention: its sums over keys, and their products with queries.
    *((64, 1024, 64), (1024, 64, 64)),
    # The same with performer-pytorch's 266 features of 64 channels, and their projection.
    *((64, 512, 266), (512, 266, 64), (512, 64, 266)),
)
"""Rows, inner size and columns of the products tried; the fastest one depends on the library."""

Shape = tuple[int, int, int]
Call = Callable[[], object]

MM, ONEDNN = "torch.mm", "oneDNN"

_ONEDNN_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def product_makers(device: Device, dtype: torch.dtype) -> dict[str, Callable[[Shape], Call]]:
    """For each available library, a function that makes a call of a product of some shape."""
    makers: dict[str, Callable[[Shape], Call]] = {MM: partial(_mm, device.place, dtype)}
    if device.shares_cores and dtype in _ONEDNN_DTYPES and _has_onednn(dtype):
        makers[ONEDNN] = partial(_onednn, dtype)
    return makers


def _has_onednn(dtype: torch.dtype) -> bool:
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, _LINEAR):
        return False
    try:
        _onednn(dtype, (1, 1, 1))()
    except RuntimeError:  # this processor has no instructions for the dtype
        return False
    return True


_LINEAR = "_linear_pointwise"


def _mm(device: torch.device, dtype: torch.dtype, shape: Shape) -> Call:
    rows, inner, columns = shape
    a, b = _random(rows, inner, device, dtype), _random(inner, columns, device, dtype)
    out = torch.empty(rows, columns, device=device, dtype=dtype)
    return partial(torch.mm, a, b, out=out)


def _onednn(dtype: torch.dtype, shape: Shape) -> Call:
    rows, inner, columns = shape
    cpu = torch.device("cpu")
    x, weight = _random(rows, inner, cpu, dtype), _random(columns, inner, cpu, dtype)
    linear: Any = getattr(torch.ops.mkldnn, _LINEAR)
    return partial(linear, x, weight, None, "none", [], "")


def _random(rows: int, columns: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    # Not zeros: these draw less power, and a chip may clock higher for them.
    return torch.randn(rows, columns, device=device).to(dtype)
