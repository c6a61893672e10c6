"""Atomic writes of files and of lines: no reader sees half of one."""

from __future__ import annotations

import errno
import json
import os
import secrets
from contextlib import suppress
from io import FileIO
from pathlib import Path

from bench.core.cli.errors import ConfigError
from bench.core.cli.stored_files import check_inside


def write_whole(
    path: Path, content: str | bytes, *, inside: Path | None = None, is_derived: bool = False
) -> Path:
    """Write a file atomically, by a rename of one beside it; text as UTF-8, line ends unchanged.

    Missing folders are made. A file that is replaced keeps its permissions, where the umask allows
    them. A file that `is_derived` can be made again after a power failure; any other is on disk
    when this returns.

    Raises:
        ConfigError: it cannot be written, or leads out of the folder `inside`.
    """
    data = content.encode() if isinstance(content, str) else content
    if inside is not None:
        check_inside(inside, path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, data, is_lasting=not is_derived)
        if not is_derived:
            _sync_folder(path.parent)
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        mend = "Free space, or choose another folder." if is_full else "Choose another folder."
        raise ConfigError(f"{path} cannot be written: {error.strerror}. {mend}") from error
    return path


def append_whole(path: Path, data: bytes, begins: bytes = b"{") -> bool:
    """Append lines, and return once they are on disk; a failed write leaves none of them.

    A last line without a newline gets one first, or is removed if it is torn. `begins` is how every
    line begins, by which a torn one is recognised. Returns whether a torn line was removed.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b", buffering=0) as file:
        was_torn = _mend_end(file, begins)
        whole = file.seek(0, os.SEEK_END)
        if not whole:
            _sync_folder(path.parent)  # makes the file's name as durable as its content
        try:
            write_all(file, data)
            os.fsync(file.fileno())
        except BaseException:  # a second Ctrl-C comes at any time
            with suppress(OSError):  # the first error is the one to report
                file.truncate(whole)  # no half line in front of the next one
            raise
    return was_torn


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_torn(line: bytes, begins: bytes = b"{") -> bool:
    """Whether a last line without a newline is no JSON but what a crash leaves of a line."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        # A file system that lost power may leave a hole of zeros where the data was to come.
        return line.startswith(begins) or begins.startswith(line) or not line.strip(b"\0")
    return False


def write_all(file: FileIO, data: bytes) -> None:
    """Write all of the data to an unbuffered file, which may take it in several parts."""
    while data:
        data = data[file.write(data) or 0 :]


def _mend_end(file: FileIO, begins: bytes) -> bool:
    """Make a file end with a newline: complete a whole last line, cut a torn one."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 1))
    if file.read() in (b"", b"\n"):
        return False
    file.seek(0)
    text = file.read()
    start = text.rfind(b"\n") + 1
    if is_torn(text[start:], begins):
        file.truncate(start)
        return True
    write_all(file, b"\n")
    return False


def check_writable(path: Path, key: str = "out") -> None:
    """Refuse a folder that we may not write to and cannot make.

    Raises:
        ConfigError: names the `key` that gave it.
    """
    existing = path.absolute()
    while not os.path.lexists(existing):
        existing = existing.parent
    if not existing.is_dir():
        raise ConfigError(
            f"{key}={path} cannot be written: {existing} is not a folder. Choose another."
        )
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError(
            f"{key}={path} cannot be written: no permission in {existing}. Choose another."
        )


def _replace(path: Path, data: bytes, *, is_lasting: bool) -> None:
    mode = path.stat().st_mode & 0o666 if path.exists() else 0o666
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            if is_lasting:
                file.flush()
                os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise
