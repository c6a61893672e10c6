"""`python -m bench.mechanisms`: measure what is missing, and write the page."""

from __future__ import annotations

import sys

from bench.mechanisms import main

if __name__ == "__main__":
    sys.exit(main())
