"""Foreign code in this process: what it raises is told apart from a Ctrl-C of the user."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread

from bench.core.cli.texts import LIMITS, said_by, visible


class CtrlC(KeyboardInterrupt):
    """The user's, which no foreign code raises."""


class ForeignEnd(Exception):
    """Foreign code raised what would end this process; the message says what."""


@contextmanager
def foreign_code() -> Iterator[None]:
    """Within, whatever is raised leaves as an `Exception`, but for a Ctrl-C of the user.

    Raises:
        ForeignEnd: instead of SystemExit, KeyboardInterrupt and such.
    """
    try:
        with ctrl_c_told_apart():
            yield
    except (CtrlC, Exception):
        raise
    except BaseException as error:
        words = f"{type(error).__name__}: {said_by(error)}".removesuffix(": ")
        raise ForeignEnd(visible(words, LIMITS["reason"])) from error


@contextmanager
def ctrl_c_told_apart() -> Iterator[None]:
    """Ctrl-C raises `CtrlC` in here."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or current_thread() is not main_thread():
        yield
        return

    def hear(*_: object) -> None:
        raise CtrlC

    signal.signal(signal.SIGINT, hear)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
