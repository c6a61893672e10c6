"""Foreign code in this process, and signals that end it as Ctrl-C does."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType

from bench.core.cli.texts import LIMITS, said_by, visible


class ForeignEnd(Exception):
    """Foreign code would have ended this process; the message names what it raised."""


@contextmanager
def foreign_code() -> Iterator[None]:
    """Turn a SystemExit that is raised inside into an `Exception`.

    Raises:
        ForeignEnd: instead of SystemExit.
    """
    try:
        yield
    except SystemExit as error:
        raise ForeignEnd(told(error)) from error


def told(error: BaseException) -> str:
    """Type and text of an exception of foreign code, printable and bounded."""
    said = said_by(error)
    if not isinstance(error, ForeignEnd):
        said = f"{type(error).__name__}: {said}".removesuffix(": ")
    return visible(said, LIMITS["reason"])


@contextmanager
def ctrl_c_by_any_signal() -> Iterator[None]:
    """Make SIGTERM and a closed terminal raise KeyboardInterrupt inside, in the main thread.

    Otherwise they end the process without a word, what it did so far is not written, and jobs that
    it launched run on. A signal that is ignored, as ``nohup`` does, or handled already stays so.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:  # which the shell and the system both send
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    caught: list[signal.Signals] = []
    try:
        if current_thread() is main_thread():
            for number in (signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) == signal.SIG_DFL:
                    signal.signal(number, interrupt)
                    caught.append(number)
        yield
    finally:
        for number in caught:
            signal.signal(number, signal.SIG_DFL)
