"""`python -m bench.explain`."""

from __future__ import annotations

import sys

from bench.studies.explain.study import main

if __name__ == "__main__":
    sys.exit(main())
