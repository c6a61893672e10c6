"""Standard output and error that cannot end a measurement: a lost reader, or a poor encoding."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TYPE_CHECKING, BinaryIO, TextIO, cast

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Unbreakable(io.RawIOBase):
    """Writes to a file descriptor, and to nowhere once its reader is gone.

    As after ``| head``, or when the window of a terminal was closed.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        # Of a file, an input/output error means that its disk is broken.
        self._when_gone = (errno.EPIPE, errno.EIO) if os.isatty(descriptor) else (errno.EPIPE,)

    def writable(self) -> bool:
        """Always."""
        return True

    def fileno(self) -> int:
        """The descriptor that was there before."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether a person reads it."""
        return os.isatty(self._descriptor)

    def write(self, data: ReadableBuffer) -> int:
        """How many bytes were taken; all of them when nobody listens."""
        try:
            return os.write(self._descriptor, data)
        except OSError as error:
            if error.errno not in self._when_gone:
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._descriptor)
            os.close(nowhere)
            return memoryview(data).nbytes


def make_streams_unbreakable() -> None:
    """Let a sweep go on, and write its tables, when what it says cannot be delivered.

    Characters that the terminal's encoding lacks become question marks. Streams that somebody has
    replaced already, such as a test, are left alone, and so are closed ones.
    """
    if sys.stdout is sys.__stdout__ and sys.stdout is not None:
        sys.stdout = _unbreakable(sys.stdout)
    if sys.stderr is sys.__stderr__ and sys.stderr is not None:
        sys.stderr = _unbreakable(sys.stderr)


def _unbreakable(stream: TextIO) -> TextIO:
    stream.flush()
    raw = _Unbreakable(stream.fileno())
    # As Python does itself under PYTHONUNBUFFERED: nothing waits between the text and the system.
    is_unbuffered = getattr(stream, "write_through", False)
    return io.TextIOWrapper(
        cast(BinaryIO, raw) if is_unbuffered else io.BufferedWriter(raw),
        encoding=stream.encoding,
        # Standard error escapes them already, which tells more than a question mark.
        errors="replace" if stream is sys.__stdout__ else stream.errors,
        line_buffering=getattr(stream, "line_buffering", True),
        write_through=is_unbuffered,
    )
