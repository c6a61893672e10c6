"""Safe access to the files of a store, which anybody may have put there.

The root of a store may be a link, since its user named it. Below it no link is followed, and only
regular files are opened: a FIFO would block, a device such as /dev/zero has no end, and a link may
lead to somebody else's files. Anything else is refused with a `ConfigError` that names it.

Each folder of a path is opened relative to its parent's descriptor, so that nobody can swap it.
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

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
"""O_NONBLOCK: opening a FIFO returns at once, so that it can be refused."""


@contextmanager
def folder_inside(root: Path, folder: Path, *, make: bool = False) -> Iterator[int]:
    """Open a folder of a store; gives its descriptor.

    With `make`, what is missing is made, the root included.

    Raises:
        ConfigError: a link lies on the way.
        OSError: it is not there, or cannot be opened or made.
        ValueError: it is not below the root.
    """
    parts = folder.relative_to(root).parts
    if ".." in parts:
        raise ValueError(f"{folder} is not below {root}")
    if make:
        root.mkdir(parents=True, exist_ok=True)
    handle = os.open(root, _FOLDER)
    try:
        for number, part in enumerate(parts, start=1):
            if make:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=handle)
            try:
                inner = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=handle)
            except OSError:
                refuse_link(root.joinpath(*parts[:number]), handle)
                raise
            os.close(handle)
            handle = inner
        yield handle
    finally:
        os.close(handle)


def refuse_link(path: Path, folder: int) -> None:
    """Raise a `ConfigError` if the last part of a path, in the open folder, is a link."""
    with suppress(OSError):
        facts = os.stat(path.name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISLNK(facts.st_mode):
            raise ConfigError(
                f"{shown(path)} is a link, and none is followed inside a store. Put there what it "
                "points to, or take it out of the folder."
            )


def open_inside(root: Path, path: Path) -> BufferedReader:
    """Open a file of a store for reading.

    Raises:
        ConfigError: it is no regular file, or a link lies on the way.
        OSError: it is not there, or cannot be opened.
    """
    with folder_inside(root, path.parent) as folder:
        try:
            handle = os.open(path.name, _FILE | os.O_NOFOLLOW, dir_fd=folder)
        except OSError as error:
            refuse_link(path, folder)
            raise _refusal(path, folder) or error from None
    return _regular(handle, path)


def open_to_append(path: Path, folder: int) -> FileIO:
    """Open a file of a store for reading and appending, unbuffered; it is made if it is missing.

    `folder` is the descriptor of its folder.

    Raises:
        ConfigError: a link, or something else than a regular file, is in its place.
        OSError: it cannot be opened or made.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        handle = os.open(path.name, flags, 0o666, dir_fd=folder)
    except OSError as error:
        refuse_link(path, folder)
        raise _refusal(path, folder) or error from None
    _require_regular(handle, path)
    return FileIO(handle, "a+")


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
    found = []
    try:
        with folder_inside(root, folder) as handle:
            for name in sorted(os.listdir(handle)):
                if not fnmatchcase(name, Path(pattern).name):
                    continue
                if are_checked:
                    refuse_link(folder / name, handle)
                    if refused := _refusal(folder / name, handle):
                        raise refused
                found.append(folder / name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ConfigError(f"{shown(folder)} cannot be read: {error.strerror}.") from error
    return found


def no_link(path: str, flags: int) -> int:
    """Open a file for writing, and refuse a link: an `opener` for `open`."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)


def folders_below(root: Path, name: str) -> list[Path]:
    """Find the folders of a name at any depth, sorted; links to folders are found, not entered."""
    found = []
    waiting = [root]
    while waiting:
        here = waiting.pop()
        with suppress(OSError, ValueError), os.scandir(here) as inner:
            for each in inner:
                if each.name == name and _leads_to_folder(each):
                    found.append(here / name)
                if each.is_dir(follow_symlinks=False):
                    waiting.append(here / each.name)
    return sorted(found)


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    """True for a folder and a link to one; also for a link in a circle, to be refused by name."""
    try:
        return entry.is_dir()
    except OSError:
        return True


def open_regular(path: Path) -> BufferedReader:
    """Open a file of the user's own data, such as an image; links are followed there.

    Raises:
        ConfigError: it is no regular file.
        OSError: it is not there, or cannot be opened.
    """
    return _regular(os.open(path, _FILE), path)


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


def _regular(handle: int, path: Path) -> BufferedReader:
    """The open file, closed again if it is not regular."""
    _require_regular(handle, path)
    return os.fdopen(handle, "rb")


def _require_regular(handle: int, path: Path) -> None:
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        raise _no_file(path, mode)


def _refusal(path: Path, folder: int) -> ConfigError | None:
    """Error about something that is neither a regular file nor a link; None if nothing is wrong."""
    try:
        mode = os.stat(path.name, dir_fd=folder, follow_symlinks=False).st_mode
    except OSError:
        return None
    return None if stat.S_ISREG(mode) else _no_file(path, mode)


def _no_file(path: Path, mode: int) -> ConfigError:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    kind = kinds.get(stat.S_IFMT(mode), "a device")
    return ConfigError(f"{shown(path)} is not a file but {kind}. Take it out of the folder.")
