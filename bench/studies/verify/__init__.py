"""`attnbench verify`: prove mechanisms against their authors' numbers, or what they claim.

`settings` says what was asked for. Then one file for each kind of proof: what it takes, what it
shows and writes, and its exit code: `outputs`, and by a key each `flops`, `conformance` and
`numerics`. The proofs themselves are in `bench.studies.golden.proof` and in the packages of these
names.
"""

from __future__ import annotations

from bench.studies.verify.command import main
from bench.studies.verify.conformance import run_conformance
from bench.studies.verify.files import write_rows
from bench.studies.verify.flops import run_flops
from bench.studies.verify.numerics import run_numerics
from bench.studies.verify.outputs import exit_code, run, verify
from bench.studies.verify.outputs_table import reasons, summary, table
from bench.studies.verify.settings import Verify

__all__ = [
    "Verify",
    "exit_code",
    "main",
    "reasons",
    "run",
    "run_conformance",
    "run_flops",
    "run_numerics",
    "summary",
    "table",
    "verify",
    "write_rows",
]
