"""Signals that ask a measurement to stop."""

import os
import signal

import pytest

from bench.measuring.worker.jobs import Interrupt


@pytest.fixture
def hangup():
    """A closed terminal's signal as it comes, though `nohup` ran the tests; put back afterwards."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_a_question_that_waits(number, hangup):
    with Interrupt() as interrupt:
        assert not interrupt.is_asked
        os.kill(os.getpid(), number)
        assert interrupt.is_asked


def test_a_second_ctrl_c_raises_and_a_second_hangup_does_not(hangup):
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)
        assert interrupt.is_asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_handlers_are_put_back(hangup):
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    with Interrupt():
        assert [signal.getsignal(number) for number in numbers] != before
    assert [signal.getsignal(number) for number in numbers] == before


def test_what_nohup_ignores_stays_ignored(hangup):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not interrupt.is_asked
