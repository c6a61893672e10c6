"""Foreign code in this process: its exceptions are told apart from the user's Ctrl-C."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType

from bench.core.cli.texts import LIMITS, said_by, visible


class CtrlC(KeyboardInterrupt):
    """Ctrl-C of the user, as opposed to a KeyboardInterrupt that foreign code raises."""


class ForeignEnd(Exception):
    """Foreign code raised something that would end this process; the message names it."""


@contextmanager
def foreign_code() -> Iterator[None]:
    """Turn whatever is raised inside into an `Exception`, except for the user's Ctrl-C.

    Raises:
        ForeignEnd: instead of SystemExit, KeyboardInterrupt and such.
    """
    try:
        with ctrl_c_told_apart():
            yield
    except (CtrlC, Exception):
        raise
    except BaseException as error:
        raise ForeignEnd(told(error)) from error


def told(error: BaseException) -> str:
    """Type and text of an exception of foreign code, printable and bounded."""
    said = said_by(error)
    if not isinstance(error, ForeignEnd):
        said = f"{type(error).__name__}: {said}".removesuffix(": ")
    return visible(said, LIMITS["reason"])


@contextmanager
def ctrl_c_told_apart() -> Iterator[None]:
    """Make Ctrl-C raise `CtrlC` inside, in the main thread, while SIGINT has its usual handler."""
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


@contextmanager
def ctrl_c_by_any_signal() -> Iterator[None]:
    """Make SIGTERM and a closed terminal raise `CtrlC` inside, in the main thread.

    Otherwise they end the process without a word, what it did so far is not written, and jobs that
    it launched run on. A signal that is ignored, as ``nohup`` does, or handled already stays so.
    """

    def hear(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:  # which the shell and the system both send
            signal.signal(number, signal.SIG_IGN)
        raise CtrlC

    heard: list[signal.Signals] = []
    try:
        if current_thread() is main_thread():
            for number in (signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) == signal.SIG_DFL:
                    signal.signal(number, hear)
                    heard.append(number)
        yield
    finally:
        for number in heard:
            signal.signal(number, signal.SIG_DFL)
