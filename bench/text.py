"""`attnbench text`: language models of a novelist's bytes, compared and scaled."""

from __future__ import annotations

import sys

from bench.studies.session import run_study
from bench.studies.text.study import Text, study


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run_study("text", Text, study, argv)


if __name__ == "__main__":
    sys.exit(main())
