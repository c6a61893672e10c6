"""The files of a store, which anybody may have put there once it is validated or merged.

The root of a store may be a link, since its user named it. Below it no link is followed, since one
may lead to somebody else's files, and only regular files are opened: a FIFO would block, and a
device such as /dev/zero has no end. Anything else is refused with a `ConfigError` that names it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from io import BufferedReader, FileIO
from pathlib import Path

from bench.core.cli.errors import ConfigError
from bench.core.cli.texts import visible

MAX_BYTES = 2**26
"""Largest file that is read as a whole, in bytes, unless a caller says otherwise."""

MAX_LINES_BYTES = 2**32
"""Largest file of records that is read or copied as a whole, in bytes."""


def check_inside(root: Path, path: Path) -> None:
    """Refuse a path of a store that leads out of it.

    Raises:
        ConfigError: a link lies on the way, or in its place.
        ValueError: it is not below the root.
    """
    parts = path.relative_to(root).parts
    if ".." in parts:
        raise ValueError(f"{path} is not below {root}")
    for number in range(1, len(parts) + 1):
        if os.path.islink(link := root.joinpath(*parts[:number])):
            raise ConfigError(
                f"{shown(link)} is a link, and none is followed inside a store. Put there what it "
                "points to, or take it out of the folder."
            )


@contextmanager
def folder_inside(root: Path, folder: Path, *, make: bool = False) -> Iterator[int]:
    """Open a folder of a store; gives its descriptor.

    With `make`, what is missing is made, the root included.

    Raises:
        ConfigError, ValueError: as `check_inside`.
        OSError: it is not there, or cannot be opened or made.
    """
    check_inside(root, folder)
    if make:
        with suppress(FileExistsError):  # a file in its place is no folder to open
            folder.mkdir(parents=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield handle
    finally:
        os.close(handle)


def open_inside(root: Path, path: Path) -> BufferedReader:
    """Open a file of a store for reading.

    Raises:
        ConfigError: it is no regular file, or a link lies on the way.
        OSError: it is not there, or cannot be opened.
    """
    check_inside(root, path)
    return open_regular(path)


def open_to_append(path: Path) -> FileIO:
    """Open a file for reading and appending, unbuffered; it is made if it is missing.

    Raises:
        ConfigError: something else than a regular file is in its place.
        OSError: it cannot be opened or made.
    """
    _check_regular(path)
    return open(path, "a+b", buffering=0)


def read_inside(root: Path, path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """Read a file of a store as a whole.

    Raises:
        ConfigError: as `open_inside`, it is larger than allowed, or it cannot be read.
        FileNotFoundError, NotADirectoryError: it is not there.
    """
    try:
        with open_inside(root, path) as file:
            return _whole(file, path, max_bytes)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise _unreadable(path, error) from error


def regular_files(root: Path, pattern: str, *, are_checked: bool = True) -> list[Path]:
    """List the files of one folder of a store, sorted by name; none if there is no such folder.

    `pattern` is the folder and what the names look like, as ``records/*.jsonl``. Unless
    `are_checked`, it is left to whoever opens a file to refuse one that is not regular.

    Raises:
        ConfigError: the folder is a link or cannot be read, or one of the files is not regular.
    """
    folder = root / Path(pattern).parent
    check_inside(root, folder)
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ConfigError(f"{shown(folder)} cannot be read: {error.strerror}.") from error
    found = [folder / name for name in names if fnmatchcase(name, Path(pattern).name)]
    for file in found if are_checked else ():
        check_inside(root, file)
        _check_regular(file)
    return found


def no_link(path: str, flags: int) -> int:
    """Open a file for writing, and refuse a link: an `opener` for `open`."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)


def folders_below(root: Path, name: str) -> list[Path]:
    """Find the folders of a name at any depth, sorted; links to folders are found, not entered."""
    if "\0" in str(root):  # no folder has such a name
        return []
    return sorted(Path(here, name) for here, folders, _ in os.walk(root) if name in folders)


def open_regular(path: Path) -> BufferedReader:
    """Open a file of the user's own data, such as an image; links are followed there.

    Raises:
        ConfigError: it is no regular file.
        OSError: it is not there, or cannot be opened.
    """
    _check_regular(path)
    return open(path, "rb")


def read_regular(path: Path, max_bytes: int = MAX_LINES_BYTES) -> bytes:
    """Read a file of the user's own data as a whole; links are followed there.

    Raises:
        ConfigError: it is no regular file, is larger than allowed, or cannot be read.
    """
    try:
        with open_regular(path) as file:
            return _whole(file, path, max_bytes)
    except (OSError, ValueError) as error:  # a name may have a null character
        raise _unreadable(path, error) from error


def _whole(file: BufferedReader, path: Path, max_bytes: int) -> bytes:
    size = os.fstat(file.fileno()).st_size
    if size > max_bytes:
        raise ConfigError(
            f"{shown(path)} has more than {max_bytes:,} bytes, which is too large to be read. Take "
            "it out of the folder, or name another."
        )
    return file.read(size)


def _unreadable(path: Path, error: Exception) -> ConfigError:
    why = getattr(error, "strerror", None) or error
    return ConfigError(f"{shown(path)} cannot be read: {why}.")


def shown(path: Path) -> str:
    """A path for a message: printable, and of a bounded length."""
    return visible(str(path), 500)


def _check_regular(path: Path) -> None:
    """Refuse what is neither a regular file nor missing; links are followed."""
    with suppress(OSError):  # whoever opens it tells
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
            kind = kinds.get(stat.S_IFMT(mode), "a device")
            raise ConfigError(f"{shown(path)} is not a file but {kind}. Take it out of the folder.")
