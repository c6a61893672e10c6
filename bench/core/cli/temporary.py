"""Folders for temporary files that no other user of the machine can have made, or write to."""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, TypeVar

from bench.core.cli.errors import ConfigError

T = TypeVar("T")

WORKERS_FOLDER = "ATTNBENCH_WORKERS_FOLDER"
"""Environment variable that hands the folder of `new_workers_folder` to a workers' server."""

WORKERS_PREFIX = "attnbench-workers-"
"""Prefix of that folder's name."""


def new_workers_folder() -> Path:
    """Make the folder for what a trial leaves for the rounds, such as compiled kernels.

    Its name cannot be guessed: whoever made it first could replace the kernels that run from it.

    Raises:
        ConfigError: it cannot be made.
    """
    prefix = f"{WORKERS_PREFIX}{os.getpid()}-"
    return Path(_made("folder for the workers", lambda: tempfile.mkdtemp(prefix=prefix)))


def new_log() -> IO[bytes]:
    """Make a file without a name for what a worker prints.

    Raises:
        ConfigError: it cannot be made.
    """
    return _made("file for the output of a worker", tempfile.TemporaryFile)


def _made(what: str, make: Callable[[], T]) -> T:
    try:
        return make()
    except OSError as error:
        raise ConfigError(
            f"No temporary {what} can be made: {error.strerror}. Free space, or set TMPDIR to a "
            "folder that can be written to."
        ) from error


@cache
def workers_folder() -> Path:
    """Folder of all workers of a server; in any other process a new one, removed at its exit."""
    if given := os.environ.get(WORKERS_FOLDER):
        return Path(given)
    folder = new_workers_folder()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def shared_folder(name: str) -> Path:
    """The folder that all processes of this user share on this host, made if it is missing.

    It lies in ``XDG_RUNTIME_DIR``, else in the temporary folder, where others could make it first.

    Raises:
        ConfigError: it cannot be made, or others could have put something into it.
    """
    user = os.getuid()
    try:
        place = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
        folder = Path(place, f"{name}-{user}")
        with suppress(FileExistsError):
            folder.mkdir(0o700)
        facts = folder.lstat()
    except OSError as error:
        raise ConfigError(f"there is no folder for {name}: {error.strerror}") from error
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != user or facts.st_mode & 0o022:
        raise ConfigError(
            f"{folder} is a link, belongs to another user, or can be written to by one"
        )
    return folder
