"""`attnbench launches`: list the GPU kernels that Triton operators launch, without a GPU."""

from __future__ import annotations

import sys

from bench.studies.launches.command import main

if __name__ == "__main__":
    sys.exit(main())
