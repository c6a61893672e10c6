"""Parts of the rounds of a worker, without a mechanism."""

from dataclasses import asdict

from bench.core.cell import Cell, KernelWorkload
from bench.measuring.device.cpu import Cpu
from bench.measuring.measure.stopping import Stopping
from bench.measuring.worker import rounds as module
from bench.measuring.worker.results import RoundsResult

WORKLOAD = KernelWorkload(
    batch_size=1,
    num_heads=1,
    head_dim=4,
    seq_len=4,
    dtype="float32",
    mode="forward",
    causal=False,
    scope="core",
)


def cell(num_threads=1, entry=None, workload=WORKLOAD):
    return Cell(
        entry=entry or f"{num_threads} threads",
        mechanism="linear",
        hyperparameters={},
        device="cpu",
        num_threads=num_threads,
        workload=workload,
    )


class Channel:
    """Keeps what is sent; nobody asks to stop."""

    def __init__(self):
        self.sent = []

    def send(self, **message):
        self.sent.append(message)

    def ask(self, **message):
        self.sent.append(message | {"waits": True})

    def is_stop_asked(self):
        return False


class FakeSubject:
    """Notes what is done with it; its call is handed in."""

    def __init__(self, call=lambda: None, num_sets=1):
        self.call = call
        self.sets = [()] * num_sets
        self.log = []

    def rotate(self):
        self.log.append("rotate")

    def prepare(self):
        self.log.append("prepare")

    def renew(self, number, num_calls, *, whole):
        self.log.append((number, num_calls, whole))


def take_rounds(*cells, num_rounds=4, references=None, **rules):
    """Messages of a worker, and its result; so many rounds unless further rules say otherwise."""
    channel = Channel()
    usual = {"min_rounds": num_rounds, "max_rounds": num_rounds, "budget_s": 0.0}
    stopping = Stopping(**(usual | rules))
    request = {
        "cells": [each.to_dict() for each in cells],
        "stopping": asdict(stopping),
        "order_seed": 5,
        "references": references,
    }
    result = module.rounds(request, channel)
    return channel.sent, result


def timed_by(clock, flush=None):
    """The CPU with a clock of a test, as `device_named` would give it."""
    device = Cpu("cpu")
    vars(device).update(time_calls=clock.time_calls, flusher=lambda: flush)
    return device


def found(**changes):
    """A result of rounds of two members."""
    values = {
        "num_rounds": 1,
        "digest": "of one",
        "stop_reason": "rounds",
        "warmup_s": ((0.5,), (0.25,)),
        "calls_per_sample": (1, 10),
        "calls_per_set": (1, 3),
        "cpu_per_wall": (1.0, None),
        "wrong": (None, None),
        "outside_s": 0.0,
        "waited_s": 0.0,
        "load": {"foreign_cores": 0.0},
        "is_noisy": False,
        "measured_s": 1.0,
    }
    return RoundsResult(**(values | changes))
