"""Whole files or none: a reader never sees half of one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from bench.app.errors import ConfigError


def write_whole(path: Path, content: str | bytes) -> Path:
    """Write through a file beside it and a rename; text as UTF-8, its line ends as they are.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
            os.chmod(beside, 0o644)  # mkstemp makes files that only their owner can read
            os.replace(beside, path)
        except BaseException:
            os.unlink(beside)
            raise
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}. Free space, or choose another folder."
        ) from error
    return path
