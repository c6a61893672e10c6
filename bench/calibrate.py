"""`python -m bench.calibrate`: measure what this machine can do at best, for sweeps to refer to."""

from __future__ import annotations

import sys

from bench.app.command import run_app
from bench.ceilings import calibrate


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run_app("calibrate", calibrate, argv)


if __name__ == "__main__":
    sys.exit(main())
