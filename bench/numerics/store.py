"""``<out>/numerics/<mechanism>.jsonl``: what was seen of a mechanism, a line per form."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench.app.errors import ConfigError
from bench.app.limits import parsed
from bench.app.stored_files import read_inside, regular_files
from bench.numerics.measure import Findings


def folder_of(out: Path) -> Path:
    """Where the findings of `out` are."""
    return out / "numerics"


def file_of(out: Path, name: str) -> Path:
    """Where what is known of a mechanism is."""
    return folder_of(out) / f"{name}.jsonl"


def text_of(found: Sequence[Findings]) -> str:
    """What is to be written there."""
    return "".join(json.dumps(asdict(each), allow_nan=False) + "\n" for each in found)


def read_findings(out: Path) -> list[Findings]:
    """All that are kept, sorted by name.

    Raises:
        ConfigError: there are none, or a file is not ours.
    """
    found: list[Findings] = []
    for file in regular_files(out, "numerics/*.jsonl"):
        try:
            lines = read_inside(out, file).decode().splitlines()
            found += [Findings(**parsed(line)) for line in lines]
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(f"{file} does not hold findings ({error}). Delete it.") from error
    if not found:
        raise ConfigError(
            f"There are no findings under {folder_of(out)}; make them with python -m bench.verify "
            "numerics=true."
        )
    return found
