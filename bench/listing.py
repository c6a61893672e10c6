"""`attnbench list`: what mechanisms there are, what they can do, and what has been proven of them.

Reads source and results as text. Neither torch nor Hydra is imported, so the answer is there at
once.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from attentions.capabilities import DTYPES, Capabilities
from attentions.catalogue import CatalogueEntry, catalogue
from bench.errors import ConfigError, did_you_mean

USAGE = "attnbench list [out=DIR]    out: the folder where verify.json lies (results)"
_OPTIONS = ("out",)
_WIDTH_WITHOUT_TERMINAL = 140


def main(argv: list[str] | None = None) -> int:
    """Print the table; returns the exit code."""
    words = sys.argv[1:] if argv is None else argv
    if {"-h", "--help"} & set(words):
        print(USAGE)
        return 0
    try:
        goldens = goldens_passed(read_out(words) / "verify.json")
    except ConfigError as error:
        print(f"ConfigError: {error}", file=sys.stderr)
        return 2
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH_WITHOUT_TERMINAL)
    console.print(table(catalogue(), goldens))
    return 0


def read_out(words: list[str]) -> Path:
    """Read the folder of results off the command line.

    Raises:
        ConfigError: a word that is not ``out=DIR``.
    """
    out = Path("results")
    for word in words:
        key, equals, value = word.partition("=")
        if key not in _OPTIONS or not equals or not value:
            raise ConfigError(f"{word} is not known. {did_you_mean(key, _OPTIONS)} Usage: {USAGE}")
        out = Path(value)
    return out


def goldens_passed(path: Path) -> dict[str, tuple[int, int]]:
    """Count the golden cases that passed, and those that were compared, per mechanism.

    Empty if nothing has been proven yet.

    Raises:
        ConfigError: the file is not what `bench.verify` writes.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from error
    passed: Counter[str] = Counter()
    compared: Counter[str] = Counter()
    try:
        for row in json.loads(text):
            if row["status"] != "not_covered" and row["mechanism"] is not None:
                compared[row["mechanism"]] += 1
                passed[row["mechanism"]] += row["status"] == "passed"
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(
            f"{path} does not hold the rows of a verification ({error!r}). "
            "Write it again with `python -m bench.verify`, or say out=DIR."
        ) from error
    return {name: (passed[name], count) for name, count in compared.items()}


def table(entries: tuple[CatalogueEntry, ...], goldens: dict[str, tuple[int, int]]) -> Table:
    """One row per mechanism."""
    rows = Table("name", "title", "kind", "can", "source", "goldens", show_lines=True)
    rows.columns[0].no_wrap = rows.columns[2].no_wrap = rows.columns[5].no_wrap = True
    for entry in entries:
        passed, compared = goldens.get(entry.name, (0, 0))
        rows.add_row(
            entry.name,
            entry.title,
            "layer" if entry.is_layer else "core",
            in_words(entry.capabilities),
            entry.source,
            f"{passed}/{compared}" if compared else "-",
        )
    return rows


def in_words(can: Capabilities) -> str:
    """Say what a mechanism claims beyond mapping queries, keys and values of one length."""
    claims = [
        (can.exact, "exact"),
        (not can.bidirectional, "causal only"),
        (can.causal and can.bidirectional, "causal"),
        (can.recurrent, "recurrent"),
        (can.cross, "cross"),
        (bool(can.masks), f"{' and '.join(sorted(can.masks))} masks"),
        (bool(can.gates), f"gates: {', '.join(can.gates)}"),
        (can.needs_grid, "needs a grid"),
        (not can.position_free, "knows positions"),
        ("core" in can.scopes and not can.heads_independent, "mixes heads"),
        (can.dtypes != DTYPES, f"{', '.join(can.dtypes)} only"),
        (can.devices == ("cpu",) or can.devices == ("cuda",), f"{can.devices[0]} only"),
        (bool(can.requires), f"needs {', '.join(can.requires)}"),
    ]
    return ", ".join(words for holds, words in claims if holds) or "bidirectional"


if __name__ == "__main__":
    sys.exit(main())
