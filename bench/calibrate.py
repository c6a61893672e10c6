"""`attnbench calibrate`: measure what this machine can do at best, for sweeps to refer to."""

from __future__ import annotations

import sys
from functools import partial

from bench.studies.ceilings import Calibrate, study
from bench.studies.session import run_study

main = partial(run_study, "calibrate", Calibrate, study)

if __name__ == "__main__":
    sys.exit(main())
