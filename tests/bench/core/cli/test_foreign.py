"""Signals that end a command: they count as Ctrl-C."""

import signal

import pytest

from bench.core.cli.command import run_app
from bench.core.cli.foreign import ForeignEnd, ctrl_c_by_any_signal, foreign_code
from bench.core.cli.values import run_words

NUMBERS = (signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def default_handlers():
    """Usual handlers, though `nohup` ran the tests; put back afterwards."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in NUMBERS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_is_heard_as_ctrl_c_also_inside_of_foreign_code(number):
    with pytest.raises(KeyboardInterrupt), ctrl_c_by_any_signal(), foreign_code():
        signal.raise_signal(number)
    assert signal.getsignal(number) == signal.SIG_DFL


def test_foreign_code_that_would_end_this_process_is_an_error_that_names_it():
    with pytest.raises(ForeignEnd, match="SystemExit: 3"), foreign_code():
        raise SystemExit(3)


@pytest.mark.parametrize("number", [signal.SIGINT, *NUMBERS])
def test_a_command_that_is_ended_gives_130(number, tmp_path):
    def command(_):
        signal.raise_signal(number)
        return 0

    assert run_words(command, [], "usage") == 130
    assert run_app("report", command, [f"out={tmp_path}"]) == 130
