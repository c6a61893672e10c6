"""`attnbench race`: make the best table of tasks that a time buys, budget=10m."""

from __future__ import annotations

import sys

from bench.studies.rates.race import main

if __name__ == "__main__":
    sys.exit(main())
