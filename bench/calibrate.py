"""`attnbench calibrate`: measure what this machine can do at best, for sweeps to refer to."""

from functools import partial

from bench.studies.ceilings import Calibrate, study
from bench.studies.session import run_study

main = partial(run_study, "calibrate", Calibrate, study)

if __name__ == "__main__":
    raise SystemExit(main())
