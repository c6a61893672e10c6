"""Write the rows of proofs, and check beforehand that they can be written."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench.core.cli.errors import ConfigError
from bench.core.cli.files import write_whole
from bench.measuring.costs.proof import FlopProof
from bench.studies.golden.proof import Proof


def write_rows(path: Path, proofs: Sequence[Proof] | Sequence[FlopProof]) -> None:
    """Write the rows as JSON.

    Raises:
        ConfigError: `path` cannot be written.
    """
    rows = [asdict(proof) for proof in proofs]
    write_whole(path, json.dumps(rows, indent=1, allow_nan=False) + "\n")


def check_writable(path: Path) -> None:
    """Make the folder of `path`, so that an `out` that cannot be written is refused at once.

    Raises:
        ConfigError: it cannot be made or written to, or `path` is a folder.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error.strerror) from error
    if path.is_dir():
        raise _unwritable(path, "it is a folder")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise _unwritable(path, f"no permission in {path.parent}")


def _unwritable(path: Path, why: str | None) -> ConfigError:
    return ConfigError(f"out={path} cannot be written: {why}. Name a file, e.g. out=verify.json.")
