"""`attnbench advise`: which mechanism to take, by what is stored. Needs no torch."""

from __future__ import annotations

import sys

from bench.studies.advise.settings import Advise
from bench.studies.advise.study import study
from bench.studies.session import run_study


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run_study("advise", Advise, study, argv, writes=())


if __name__ == "__main__":
    sys.exit(main())
