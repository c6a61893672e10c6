"""Write the rows of proofs, and show what came of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from bench.core.cli.files import write_whole
from bench.measuring.costs.proof import FlopProof
from bench.studies.golden.proof import Proof
from bench.studies.session import Session


def write_rows(path: Path, proofs: Sequence[Proof] | Sequence[FlopProof]) -> None:
    """Write the rows as JSON.

    Raises:
        ConfigError: `path` cannot be written.
    """
    rows = [asdict(proof) for proof in proofs]
    write_whole(path, json.dumps(rows, indent=1, allow_nan=False) + "\n")


def tell(session: Session, table: Table, reasons: Sequence[str], summary: str) -> None:
    """Print a table of proofs, lines with reasons, and the summary."""
    session.console.print(table)
    for line in (*reasons, summary):
        session.say(line)
