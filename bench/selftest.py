"""`python -m bench.selftest`: compare this tree with itself, and write the page."""

from __future__ import annotations

import sys

from bench.studies.selftest.study import main

if __name__ == "__main__":
    sys.exit(main())
