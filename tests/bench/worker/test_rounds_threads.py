"""Which threads a member has while it is timed, with a clock that looks at them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.cell import Cell, KernelWorkload
from bench.measure.stopping import Stopping
from bench.worker import rounds as module

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


class Channel:
    """Keeps what is sent; nobody asks to stop."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def send(self, **message: Any) -> None:
        self.sent.append(message)

    def is_stop_asked(self) -> bool:
        return False


class Clock:
    """A second for each thread that torch has while a call runs."""

    def time_calls(self, call: Callable[[], object], count: int) -> float:
        return count * float(torch.get_num_threads())


@pytest.fixture(autouse=True)
def numbers_set(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Subjects that do nothing; gives the numbers of threads that were set."""
    numbers: list[int] = []
    now = torch.get_num_threads()
    set_threads = torch.set_num_threads

    def noted(number: int) -> None:
        numbers.append(number)
        set_threads(number)

    nothing = SimpleNamespace(call=lambda: None, rotate=lambda: None)
    monkeypatch.setattr("bench.models.subject.subject_of", lambda cell: nothing)
    monkeypatch.setattr(module, "clock_for", lambda device: Clock())
    monkeypatch.setattr(torch, "set_num_threads", noted)
    yield numbers
    set_threads(now)


def cell(num_threads: int) -> Cell:
    return Cell(
        entry=f"{num_threads} threads",
        mechanism="linear",
        hyperparameters={},
        device="cpu",
        num_threads=num_threads,
        workload=WORKLOAD,
    )


def run(*numbers: int) -> list[list[float]]:
    channel: Any = Channel()
    stopping = Stopping(min_rounds=4, max_rounds=4, budget_s=0.0)
    request = {
        "cells": [cell(number).to_dict() for number in numbers],
        "stopping": asdict(stopping),
        "order_seed": 5,
    }
    module.rounds(request, channel)
    return [message["round"] for message in channel.sent if "round" in message]


def test_members_of_different_threads_have_their_own_in_every_round() -> None:
    assert run(2, 1) == [[2.0, 1.0]] * 4


def test_members_of_the_same_threads_get_them_once_and_never_between_samples(
    numbers_set: list[int],
) -> None:
    assert run(2, 2) == [[2.0, 2.0]] * 4
    assert numbers_set == [2, 2], "one for each warm-up"
