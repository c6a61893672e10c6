"""`attnbench calibrate`: measure what this machine can do at best, for sweeps to refer to."""

from __future__ import annotations

import sys

from bench.studies.ceilings import Calibrate, study
from bench.studies.session import run_study


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run_study("calibrate", Calibrate, study, argv)


if __name__ == "__main__":
    sys.exit(main())
