"""`python -m bench.report`: tables, charts and W&B runs from records alone. Needs no torch."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console

from bench.app.command import run_app
from bench.machine.calibration import with_calibration
from bench.publish import print_files, print_leaderboard, publish, read_publish_config
from bench.store import read_store


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run_app("report", report, argv)


def report(config: dict[str, Any]) -> int:
    """Read every record under ``out``, print the leaderboard and write all outputs.

    Lines that hold no record are named and left out. The exit code is then 2, unless a crash in the
    middle of a write is all that there was.

    Raises:
        ConfigError: a key is wrong, there are no records, or a file cannot be read or written.
    """
    wanted = read_publish_config(config)
    reading = read_store(wanted.out)
    records = with_calibration(reading.records, wanted.out)
    published = publish(records, wanted)
    console = Console()
    print_leaderboard(records, wanted, console)
    console.print()
    print_files(published.files, published.notes, console)
    for words in reading.describe():
        print(words, file=sys.stderr)
    return 2 if reading.is_damaged else 0


if __name__ == "__main__":
    sys.exit(main())
