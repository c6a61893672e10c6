"""The command: one kind of proof."""

from __future__ import annotations

from bench.studies.session import Session, run_study
from bench.studies.verify.conformance import run_conformance
from bench.studies.verify.flops import run_flops
from bench.studies.verify.numerics import run_numerics
from bench.studies.verify.outputs import run
from bench.studies.verify.settings import Verify


def study(asked: Verify, session: Session) -> int:
    """Run the chosen kind of proof; returns the exit code."""
    if asked.flops:
        return run_flops(asked, session)
    if asked.conformance:
        return run_conformance(asked, session)
    return run_numerics(asked, session) if asked.numerics else run(asked, session)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run_study("verify", Verify, study, argv, writes=("out",), out_is_file=True)
