"""`attnbench explain`: which tokens a trained model's answers rest on."""

from __future__ import annotations

import sys

from bench.studies.explain.running import Explain
from bench.studies.explain.study import study
from bench.studies.session import run_study


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run_study("explain", Explain, study, argv)


if __name__ == "__main__":
    sys.exit(main())
