"""`attnbench diagnose`: entropy, rank and errors of attention weights, and a chart."""

from __future__ import annotations

import sys

from bench.studies.diagnostics.settings import Diagnose
from bench.studies.diagnostics.study import study
from bench.studies.session import run_study


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run_study("diagnose", Diagnose, study, argv)


if __name__ == "__main__":
    sys.exit(main())
