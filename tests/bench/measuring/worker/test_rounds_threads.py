"""Which threads a member has while it is timed, with a clock that looks at them."""

import pytest
import torch

from bench.measuring.worker import rounds as module
from tests.bench.measuring.worker.fakes import FakeSubject, cell, take_rounds, timed_by


class Clock:
    """A second for each thread that torch has while a call runs."""

    def time_calls(self, call, count):
        return count * float(torch.get_num_threads())


@pytest.fixture(autouse=True)
def numbers_set(monkeypatch):
    """Subjects that do nothing; gives the numbers of threads that were set."""
    numbers = []
    now = torch.get_num_threads()
    set_threads = torch.set_num_threads

    def noted(number):
        numbers.append(number)
        set_threads(number)

    monkeypatch.setattr("bench.measuring.worker.turns.subject_of", lambda cell: FakeSubject())
    monkeypatch.setattr("bench.measuring.worker.turns.after_rounds", lambda cell, subject: None)
    monkeypatch.setattr(module, "device_named", lambda name: timed_by(Clock()))
    monkeypatch.setattr(torch, "set_num_threads", noted)
    yield numbers
    set_threads(now)


def samples(*numbers):
    sent, _ = take_rounds(*map(cell, numbers))
    return [message["round"] for message in sent if "round" in message]


def test_members_of_different_threads_have_their_own_in_every_round():
    assert samples(2, 1) == [[2.0, 1.0]] * 4


def test_members_of_the_same_threads_get_them_once_and_never_between_samples(numbers_set):
    assert samples(2, 2) == [[2.0, 2.0]] * 4
    assert numbers_set == [2] * 4, "one for each warm-up, one for each check after the rounds"
