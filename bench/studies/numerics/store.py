"""``<out>/numerics/<mechanism>.jsonl``: findings about a mechanism, one line per form."""

from __future__ import annotations

from pathlib import Path

from bench.core.cli.errors import ConfigError
from bench.core.cli.stored_files import regular_files
from bench.core.lines import Lines
from bench.studies.numerics.measure import Findings


def folder_of(out: Path) -> Path:
    """The folder ``<out>/numerics``."""
    return out / "numerics"


def lines_of(out: Path, name: str) -> Lines[Findings]:
    """File of a mechanism's findings, ``<out>/numerics/<name>.jsonl``."""
    return Lines[Findings](folder_of(out) / f"{name}.jsonl", Findings, out, mend="Delete it.")


def read_findings(out: Path) -> list[Findings]:
    """All stored findings, sorted by mechanism.

    Raises:
        ConfigError: there are none, or a file does not hold findings.
    """
    files = regular_files(out, "numerics/*.jsonl")
    found = [one for file in files for one in lines_of(out, file.stem).read()]
    if not found:
        raise ConfigError(
            f"There are no findings under {folder_of(out)}; make them with attnbench verify "
            "numerics=true."
        )
    return found
