"""`attnbench verify`: prove, show, write."""

from __future__ import annotations

import sys

from bench.studies.verify.command import main

if __name__ == "__main__":
    sys.exit(main())
