"""``<out>/numerics/<mechanism>.jsonl``: what was seen of a mechanism, a line per form."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.app.errors import ConfigError

Line = dict[str, Any]
"""What `Findings` holds; of the authors' operators, what `official` says."""
OFFICIAL = "official"
"""The file of what was seen of the authors' operators, which is no mechanism's name."""


def folder_of(out: Path) -> Path:
    """Where the findings of `out` are."""
    return out / "numerics"


def file_of(out: Path, name: str) -> Path:
    """Where what is known of a mechanism is."""
    return folder_of(out) / f"{name}.jsonl"


def text_of(lines: Sequence[Any]) -> str:
    """What is to be written there of `Findings`, or of `official.Beside`."""
    return "".join(json.dumps(asdict(line), allow_nan=False) + "\n" for line in lines)


def read_findings(out: Path) -> dict[str, list[Line]]:
    """Name -> lines, sorted by name.

    Raises:
        ConfigError: there are none, or a file is not ours.
    """
    found: dict[str, list[Line]] = {}
    for file in sorted(folder_of(out).glob("*.jsonl")):
        try:
            found[file.stem] = [json.loads(line) for line in file.read_text().splitlines()]
        except (OSError, ValueError) as error:
            raise ConfigError(f"{file} does not hold findings ({error}). Delete it.") from error
    if not found:
        raise ConfigError(
            f"There are no findings under {folder_of(out)}; make them with python -m bench.verify "
            "numerics=true."
        )
    return found
