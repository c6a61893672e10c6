import torch

from bench.measure import cache
from bench.measure.latency import Member, time_round

CPU = torch.device("cpu")


def test_twice_the_last_level_cache_is_written(monkeypatch):
    monkeypatch.setattr(cache, "last_level_cache_bytes", lambda device: 4096)
    made = []
    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *a, **k: made.append(zeros(*a, **k)) or made[-1])
    flush = cache.flusher(CPU)
    flush()
    assert made[0].numel() * 4 == 8192 and bool((made[0] == 1).all())


def test_the_size_of_this_machines_cache_is_plausible():
    assert 2**20 <= cache.last_level_cache_bytes(CPU) <= 2**32


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
