"""`attnbench convert`: how much of a trained softmax model survives a change of mechanism."""

from __future__ import annotations

import sys

from bench.studies.convert.study import Convert, study
from bench.studies.session import run_study


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run_study("convert", Convert, study, argv)


if __name__ == "__main__":
    sys.exit(main())
