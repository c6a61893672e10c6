"""`attnbench show`: show all that is known of one mechanism."""

from __future__ import annotations

import sys

from bench.studies.catalogue.showing import main

if __name__ == "__main__":
    sys.exit(main())
