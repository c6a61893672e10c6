"""`attnbench list`: show the mechanisms, what they can do and what is proven."""

from __future__ import annotations

import sys

from bench.studies.catalogue.listing import main

if __name__ == "__main__":
    sys.exit(main())
