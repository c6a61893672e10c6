from contextlib import contextmanager

import pytest
import torch

from bench.measuring.device import cpu, device_named
from bench.measuring.device.cuda import Cuda


def test_the_cpu_clock_runs_every_call_and_returns_seconds(monkeypatch):
    readings = iter([5_000_000_000, 7_500_000_000])
    monkeypatch.setattr(cpu, "wall_ns", lambda: next(readings))
    calls = []
    assert device_named("cpu").time_calls(lambda: calls.append(1), 3) == 2.5
    assert len(calls) == 3


class Events:
    """Records what a card's clock asks of torch, and answers with written times."""

    def __init__(self, milliseconds):
        self.log = []
        self.milliseconds = milliseconds
        self.current = torch.device("cuda:0")

    @contextmanager
    def device(self, place):
        before, self.current = self.current, place
        yield
        self.current = before

    def synchronize(self, device):
        self.log.append("synchronize")

    def Event(self, enable_timing):
        assert enable_timing
        log, milliseconds, events = self.log, self.milliseconds, self

        class Event:
            def record(self):
                log.append("record")
                self.place = events.current

            def synchronize(self):
                log.append("wait")

            def elapsed_time(self, end):
                assert end is not self
                events.places = [self.place, end.place]
                return milliseconds

        return Event()


def test_the_clock_of_a_card_waits_for_earlier_work_and_for_its_own(monkeypatch):
    events = Events(milliseconds=12.0)
    monkeypatch.setattr(Cuda, "api", events)
    seconds = device_named("cuda:0").time_calls(lambda: events.log.append("call"), 2)
    assert seconds == 0.012
    assert events.log == ["synchronize", "record", "call", "call", "record", "wait"]


def test_the_clock_of_a_second_card_runs_on_that_card_and_leaves_the_current_one(monkeypatch):
    events = Events(milliseconds=1.0)
    monkeypatch.setattr(Cuda, "api", events)
    device_named("cuda:1").time_calls(lambda: None, 1)
    assert events.places == [torch.device("cuda:1")] * 2
    assert events.current == torch.device("cuda:0")


def test_a_device_of_which_nothing_is_known_has_no_clock():
    with pytest.raises(NotImplementedError, match="No clock sees the work of meta"):
        device_named("meta").time_calls(lambda: None, 1)
