from functools import partial

import pytest
import torch

from bench.measuring.device import device_named
from bench.measuring.device.cpu import Cpu
from bench.measuring.measure import roofline
from bench.measuring.measure.roofline import (
    GLANCE,
    MM,
    ONEDNN,
    copy_rate,
    measure_ceiling,
    product_makers,
    shortest_s,
)

CPU = Cpu("cpu")


class WrittenClock:
    """Returns written times, the last one for ever, whatever was called; keeps the counts."""

    def __init__(self, *seconds):
        self.seconds = list(seconds)
        self.counts = []

    def time_calls(self, call, count):
        call()
        self.counts.append(count)
        return self.seconds.pop(0) if len(self.seconds) > 1 else self.seconds[0]


class WorkClock:
    """Time that follows from the work of a call at fixed rates; products of named libraries."""

    def __init__(self, monkeypatch, bytes_per_s, **flops_per_s):
        self.took_s = None
        self.asked = []
        self.bytes_per_s = bytes_per_s
        makers = {name: partial(self._product, name, rate) for name, rate in flops_per_s.items()}
        monkeypatch.setattr(roofline, "product_makers", lambda device, dtype: makers)

    def _product(self, library, flops_per_s, shape):
        rows, inner, columns = shape
        self.asked.append((library, shape))
        # Square products are slower on this machine.
        rate = flops_per_s / (2 if inner == columns else 1)

        def call():
            self.took_s = 2 * rows * inner * columns / rate

        return call

    def time_calls(self, call, count):
        self.took_s = None
        target = call()
        if self.took_s is None:
            self.took_s = 2 * target.numel() * target.element_size() / self.bytes_per_s
        return count * self.took_s


def test_the_shortest_sample_counts_and_the_first_calls_only_warm_up():
    clock = WrittenClock(9.0, 0.02, 0.5, 0.3, 0.7, 0.4)
    assert shortest_s(lambda: None, clock) == 0.3
    assert clock.counts == [1] * 5, "a call above the least sample is not repeated in it"


def test_short_calls_are_repeated_until_a_sample_lasts():
    clock = WrittenClock(0.001, 0.001, 0.006)
    assert shortest_s(lambda: None, clock) == 0.006 / 5
    assert clock.counts[2:] == [5] * 25, "samples are taken until their budget is spent"


def test_a_copy_counts_what_it_reads_and_what_it_writes():
    clock = WrittenClock(0.5)
    assert copy_rate(1000, CPU.place, torch.float32, clock) == 2 * 500 / 0.5
    assert copy_rate(1000, CPU.place, torch.float64, clock) == 2 * 62 * 8 / 0.5


def test_the_fastest_product_is_found_among_square_and_skinny_ones(monkeypatch):
    monkeypatch.setattr(Cpu, "cache_levels_bytes", lambda device: (4096, 65_536))
    clock = WorkClock(monkeypatch, 1e9, mm=1e12)
    found = measure_ceiling(CPU, torch.float32, clock)
    assert found.flops_per_s == pytest.approx(1e12)
    rows, inner, columns = found.product
    assert inner != columns and rows == max(found.product)
    assert [size for size, _ in found.bytes_per_s] == [2048, 32_768, 4 * 65_536]
    assert [rate for _, rate in found.bytes_per_s] == pytest.approx([1e9] * 3)


def test_the_fastest_library_is_the_ceiling_and_the_others_are_kept_beside_it(monkeypatch):
    monkeypatch.setattr(Cpu, "cache_levels_bytes", lambda device: (4096,))
    found = measure_ceiling(CPU, torch.float32, WorkClock(monkeypatch, 1e9, slow=1e11, fast=2e11))
    assert (found.library, found.flops_per_s) == ("fast", pytest.approx(2e11))
    assert dict(found.library_flops_per_s) == pytest.approx({"slow": 1e11, "fast": 2e11})


def test_products_that_would_take_long_are_left_out_by_each_librarys_own_rate(monkeypatch):
    monkeypatch.setattr(Cpu, "cache_levels_bytes", lambda device: (4096,))
    clock = WorkClock(monkeypatch, 1e9, fast=1e11, slow=1e8)
    measure_ceiling(CPU, torch.float32, clock)
    assert ("fast", (1024, 1024, 1024)) in clock.asked
    of_slow = [shape for library, shape in clock.asked if library == "slow"]
    assert (1024, 1024, 1024) not in of_slow and (256, 256, 256) in of_slow


def test_a_glance_makes_no_long_product_and_no_copy_beyond_the_caches(monkeypatch):
    monkeypatch.setattr(Cpu, "cache_levels_bytes", lambda device: (4096, 65_536))
    clock = WorkClock(monkeypatch, 1e9, mm=2e11)
    found = measure_ceiling(CPU, torch.float32, clock, GLANCE)
    assert [size for size, _ in found.bytes_per_s] == [2048, 32_768]
    assert ("mm", (512, 512, 512)) in clock.asked
    assert ("mm", (1024, 1024, 1024)) not in clock.asked, "it would take 21 ms"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_every_library_makes_a_product_of_the_shape_that_it_is_asked_for(dtype):
    for make in product_makers(CPU, dtype).values():
        out = make((4, 3, 5))()
        assert (out.shape, out.dtype) == ((4, 5), dtype)


def test_float32_is_tried_by_the_library_that_the_mechanisms_use_as_well():
    has_onednn = torch.backends.mkldnn.is_available()
    assert set(product_makers(CPU, torch.float32)) == {MM, *([ONEDNN] if has_onednn else [])}


@pytest.mark.parametrize(
    ("device", "dtype"), [(device_named("meta"), torch.float32), (CPU, torch.float64)]
)
def test_there_is_torch_mm_alone_where_onednn_has_no_product(device, dtype):
    assert set(product_makers(device, dtype)) == {MM}
