"""`attnbench reproduce`."""

from __future__ import annotations

import sys

from bench.studies.reproduce.command import main

if __name__ == "__main__":
    sys.exit(main())
