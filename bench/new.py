"""`attnbench new`: write the files of a new mechanism, to be filled in."""

from __future__ import annotations

import sys

from bench.studies.catalogue.new import main

if __name__ == "__main__":
    sys.exit(main())
