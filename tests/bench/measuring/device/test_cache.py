import pytest
import torch

from bench.measuring.device import cpu, device_named
from bench.measuring.device.cpu import Cpu
from bench.measuring.measure.latency import Member, time_round

CPU = device_named("cpu")
MIB = 2**20


@pytest.fixture
def caches(tmp_path, monkeypatch):
    """A processor's caches as the system lists them: `caches((level, size), …)`."""

    def write(*listed):
        for number, (level, size) in enumerate(listed):
            folder = tmp_path / f"index{number}"
            folder.mkdir()
            (folder / "level").write_text(f"{level}\n")
            (folder / "size").write_text(f"{size}\n")

    monkeypatch.setattr(cpu, "Path", lambda _: tmp_path)
    return write


def test_twice_the_last_level_cache_is_written(monkeypatch):
    monkeypatch.setattr(Cpu, "cache_levels_bytes", lambda device: (512, 4096))
    made = []
    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *a, **k: made.append(zeros(*a, **k)) or made[-1])
    flush = CPU.flusher()
    flush()
    assert made[0].numel() * 4 == 8192 and bool((made[0] == 1).all())


def test_caches_count_from_the_second_level_on_and_rise(caches):
    caches((1, "32K"), (1, "64K"), (3, "36M"), (2, "512K"))
    assert CPU.cache_levels_bytes() == (512 * 2**10, 36 * MIB)


def test_of_two_caches_of_a_level_the_larger_counts_and_an_unreadable_one_does_not(caches):
    caches((2, "1M"), (2, "2M"), (2, "1536K"), (3, "0K"), (4, "much"), ("?", "64M"))
    assert CPU.cache_levels_bytes() == (2 * MIB,)


def test_where_no_cache_can_be_read_the_last_is_taken_for_64_mib(caches):
    assert CPU.cache_levels_bytes() == (64 * MIB,)
    caches((1, "32K"))
    assert CPU.cache_levels_bytes() == (64 * MIB,)


def test_the_size_of_this_machines_cache_is_plausible():
    assert 2**20 <= CPU.cache_levels_bytes()[-1] <= 2**32


def test_the_flush_runs_before_every_call_and_outside_of_the_timed_span():
    log = []

    class Clock:
        def time_calls(self, call, count):
            log.append("start")
            for _ in range(count):
                call()
            log.append("stop")
            return 0.5

    member = Member(call=lambda: log.append("call"), calls_per_sample=2, warmup_s=())
    samples = time_round([member], [0], Clock(), flush=lambda: log.append("flush"))
    assert log == ["flush", "start", "call", "stop"] * 2
    assert samples == [0.5]
