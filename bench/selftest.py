"""`attnbench selftest`: compare this tree with itself, and write the page."""

from __future__ import annotations

import sys

from bench.studies.selftest.settings import Selftest
from bench.studies.selftest.study import study
from bench.studies.session import run_study


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run_study("selftest", Selftest, study, argv)


if __name__ == "__main__":
    sys.exit(main())
