import torch

from bench.measuring.measure import device_clock as clocks


def test_the_cpu_clock_runs_every_call_and_returns_seconds(monkeypatch):
    readings = iter([5_000_000_000, 7_500_000_000])
    monkeypatch.setattr(clocks, "wall_ns", lambda: next(readings))
    calls = []
    assert clocks.CpuClock().time_calls(lambda: calls.append(1), 3) == 2.5
    assert len(calls) == 3


class FakeCuda:
    """Records what a CUDA clock asks of torch.cuda, and answers with written times."""

    def __init__(self, milliseconds):
        self.log = []
        self.milliseconds = milliseconds

    def synchronize(self, device):
        self.log.append("synchronize")

    def Event(self, enable_timing):
        assert enable_timing
        log, milliseconds = self.log, self.milliseconds

        class Event:
            def record(self):
                log.append("record")

            def synchronize(self):
                log.append("wait")

            def elapsed_time(self, end):
                assert end is not self
                return milliseconds

        return Event()


def test_the_cuda_clock_waits_for_earlier_work_and_for_its_own():
    clock = clocks.CudaClock(torch.device("cuda:0"))
    clock._cuda = FakeCuda(milliseconds=12.0)
    seconds = clock.time_calls(lambda: clock._cuda.log.append("call"), 2)
    assert seconds == 0.012
    assert clock._cuda.log == ["synchronize", "record", "call", "call", "record", "wait"]


def test_each_device_has_the_clock_that_sees_its_work():
    assert isinstance(clocks.clock_for(torch.device("cpu")), clocks.CpuClock)
    assert isinstance(clocks.clock_for(torch.device("cuda:0")), clocks.CudaClock)
