"""`attnbench rates`."""

from __future__ import annotations

import sys

from bench.studies.rates.search import main

if __name__ == "__main__":
    sys.exit(main())
