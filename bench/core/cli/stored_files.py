"""Files that somebody else may have put into a store, which is validated or merged, or into data.

One's own store is trusted. In a stranger's, a link may lead to files of the reader's, a FIFO would
block, and a device such as /dev/zero has no end: each is refused with a `ConfigError`.
"""

from __future__ import annotations

import os
import stat
from fnmatch import fnmatchcase
from io import BufferedReader
from pathlib import Path

from bench.core.cli.errors import ConfigError

MAX_BYTES = 2**26
"""Largest file that is read as a whole, in bytes, unless a caller says otherwise."""

MAX_LINES_BYTES = 2**32
"""Largest file of records that is read or copied as a whole, in bytes."""


def check_inside(root: Path, path: Path) -> None:
    """Refuse a path that leads out of a store, by a link or otherwise.

    Raises:
        ConfigError: it leads elsewhere.
    """
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
        raise ConfigError(
            f"{path} leads out of {root}, and no link out of a store is followed. Put there what "
            "it points to, or take it out of the folder."
        )


def read_inside(root: Path, path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """Read a file of a store as a whole.

    Raises:
        ConfigError: it leads out of the store, or as `read_regular`.
        FileNotFoundError, NotADirectoryError: it is not there.
    """
    check_inside(root, path)
    return _read(path, max_bytes)


def regular_files(root: Path, pattern: str) -> list[Path]:
    """List the files of one folder of a store, sorted by name; none if there is no such folder.

    `pattern` is the folder and a pattern of names, as ``records/*.jsonl``.

    Raises:
        ConfigError: the folder cannot be read, or the folder or a file leads out of the store.
    """
    folder = root / Path(pattern).parent
    check_inside(root, folder)
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ConfigError(f"{folder} cannot be read: {error.strerror}.") from error
    found = [folder / name for name in names if fnmatchcase(name, Path(pattern).name)]
    for file in found:
        check_inside(root, file)
    return found


def open_regular(path: Path) -> BufferedReader:
    """Open a file for reading; links are followed.

    Raises:
        ConfigError: it is not a regular file.
        OSError: it is not there, or cannot be opened.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(mode), "a device")
        raise ConfigError(f"{path} is not a file but {kind}. Take it out of the folder.")
    return open(path, "rb")


def read_regular(path: Path, max_bytes: int = MAX_LINES_BYTES) -> bytes:
    """Read a file as a whole; links are followed.

    Raises:
        ConfigError: it is not a regular file, is larger than allowed, or cannot be read.
    """
    try:
        return _read(path, max_bytes)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error


def _read(path: Path, max_bytes: int) -> bytes:
    """`read_regular`, but a missing file raises the system's own error."""
    try:
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size > max_bytes:
                raise ConfigError(
                    f"{path} has more than {max_bytes:,} bytes, which is too large to be read. "
                    "Take it out of the folder, or name another."
                )
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
