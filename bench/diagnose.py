"""`python -m bench.diagnose`: entropy, rank and errors of attention weights, and a chart."""

from __future__ import annotations

import sys

from bench.app.command import run_app
from bench.diagnostics.command import diagnose


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run_app("diagnose", diagnose, argv)


if __name__ == "__main__":
    sys.exit(main())
