"""Standard streams: a closed pipe or a narrow encoding must not abort a measurement."""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, TextIO, cast

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
    from rich.console import Console


WIDTH_WITHOUT_TERMINAL = 200
"""Columns of tables in a log."""


def console() -> Console:
    """Prints to standard output without markup, which names of rows may look like."""
    from rich.console import Console

    here = Console(markup=False)
    return here if here.is_terminal else Console(width=WIDTH_WITHOUT_TERMINAL, markup=False)


class _Unbreakable(io.RawIOBase):
    """Writes to a file descriptor, and to /dev/null once a write has failed.

    A write fails when the reader is gone, as after ``| head`` or when a terminal's window was
    closed, or when the disk is full or broken, which is reported on standard error.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._when_gone = (errno.EPIPE, errno.EIO) if os.isatty(descriptor) else (errno.EPIPE,)

    def writable(self) -> bool:
        """Always."""
        return True

    def fileno(self) -> int:
        """The descriptor that is written to."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether the descriptor is a terminal."""
        return os.isatty(self._descriptor)

    def write(self, data: ReadableBuffer) -> int:
        """Write some bytes and return their number; all of them once writes go to /dev/null."""
        try:
            return os.write(self._descriptor, data)
        except OSError as error:
            if error.errno not in self._when_gone:
                _lost.add(self._descriptor)
                if self._descriptor != 2:  # else there is nobody to tell
                    _tell_lost(error.strerror)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._descriptor)
            os.close(nowhere)
            return memoryview(data).nbytes


_lost: set[int] = set()
"""Descriptors whose writes failed for another reason than a lost reader."""


def exit_code(code: int) -> int:
    """The exit code of a command: 2 instead of 0 where some of its output was lost."""
    sys.stdout.flush()
    return code or (2 if _lost else 0)


def _tell_lost(why: str | None) -> None:
    with suppress(OSError):
        words = f"Standard output cannot be written ({why}). Records and tables are written.\n"
        os.write(2, words.encode())


def make_streams_unbreakable() -> None:
    """Let a sweep go on, and write its tables, when its output cannot be written.

    Characters that the terminal's encoding lacks become question marks. Streams that were replaced
    already, as by a test, are left alone. Closed ones lead to /dev/null.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w" if number else "r"))  # noqa: SIM115
    if sys.stdout is sys.__stdout__ and sys.stdout is not None:
        sys.stdout = _unbreakable(sys.stdout)
    if sys.stderr is sys.__stderr__ and sys.stderr is not None:
        sys.stderr = _unbreakable(sys.stderr)


def _unbreakable(stream: TextIO) -> TextIO:
    stream.flush()
    raw = _Unbreakable(stream.fileno())
    # As Python does itself under PYTHONUNBUFFERED: no buffer between the text and the system.
    is_unbuffered = getattr(stream, "write_through", False)
    return io.TextIOWrapper(
        cast(BinaryIO, raw) if is_unbuffered else io.BufferedWriter(raw),
        encoding=stream.encoding,
        # Standard error escapes them already, which tells more than a question mark.
        errors="replace" if stream is sys.__stdout__ else stream.errors,
        line_buffering=getattr(stream, "line_buffering", True),
        write_through=is_unbuffered,
    )
