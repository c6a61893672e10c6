"""`attnbench hybrids`: train mixers alone and beside softmax layers, and compare orders."""

from __future__ import annotations

import sys

from bench.studies.hybrids import Hybrids, study
from bench.studies.session import run_study


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run_study("hybrids", Hybrids, study, argv)


if __name__ == "__main__":
    sys.exit(main())
