from dataclasses import asdict

import pytest
import torch

from bench.measure import cache, roofline
from bench.measure.roofline import copy_rate, measure_ceiling, shortest_s

CPU = torch.device("cpu")


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
    """Time that follows from the work of a call at fixed rates."""

    def __init__(self, monkeypatch, flops_per_s, bytes_per_s):
        self.took_s = 0.0
        real = torch.mm

        def mm(a, b, out):
            work = 2 * a.shape[0] * a.shape[1] * b.shape[1]
            # Square products are slower on this machine.
            rate = flops_per_s / (2 if a.shape[1] == b.shape[1] else 1)
            self.took_s = work / rate
            return out if work > 2e8 else real(a, b, out=out)

        monkeypatch.setattr(torch, "mm", mm)
        self.bytes_per_s = bytes_per_s

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


def test_a_clock_that_stands_still_does_not_hang_it():
    assert shortest_s(lambda: None, WrittenClock(0.0)) == 0.0


def test_a_copy_counts_what_it_reads_and_what_it_writes():
    clock = WrittenClock(0.5)
    assert copy_rate(1000, CPU, torch.float32, clock) == 2 * 500 / 0.5
    assert copy_rate(1000, CPU, torch.float64, clock) == 2 * 62 * 8 / 0.5


def test_the_fastest_product_is_found_among_square_and_skinny_ones(monkeypatch):
    monkeypatch.setattr(roofline, "cache_levels_bytes", lambda device: (4096, 65_536))
    clock = WorkClock(monkeypatch, flops_per_s=1e12, bytes_per_s=1e9)
    found = measure_ceiling(CPU, torch.float32, clock)
    assert found.flops_per_s == pytest.approx(1e12)
    rows, inner, columns = found.product
    assert inner != columns and rows == max(found.product)
    assert [size for size, _ in found.bytes_per_s] == [2048, 32_768, 4 * 65_536]
    assert [rate for _, rate in found.bytes_per_s] == pytest.approx([1e9] * 3)


def test_products_that_would_take_long_are_left_out(monkeypatch):
    clock = WorkClock(monkeypatch, flops_per_s=1e8, bytes_per_s=1e9)
    tried = [shape for shape, _ in roofline._product_rates(CPU, torch.float32, clock)]
    assert tried == [(256, 256, 256)]


def test_a_dtype_without_products_is_an_error_and_not_a_rate():
    with pytest.raises(RuntimeError):
        measure_ceiling(CPU, torch.bool, WrittenClock(0.1))


def test_a_ceiling_is_plain_data(monkeypatch):
    monkeypatch.setattr(roofline, "SHAPES", ((8, 8, 8),))
    monkeypatch.setattr(roofline, "cache_levels_bytes", lambda device: (4096,))
    found = measure_ceiling(CPU, torch.float32, WrittenClock(0.1))
    assert asdict(found) == {
        "flops_per_s": 2 * 8**3 / 0.1,
        "product": (8, 8, 8),
        "bytes_per_s": ((2048, 2048 / 0.1), (16_384, 16_384 / 0.1)),
    }


def test_levels_of_cache_rise_and_end_with_the_last():
    levels = cache.cache_levels_bytes(CPU)
    assert list(levels) == sorted(levels)
    assert levels[-1] == cache.last_level_cache_bytes(CPU)
