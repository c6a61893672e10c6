"""`attnbench diagnose`: entropy, rank and errors of attention weights, and a chart."""

from functools import partial

from bench.studies.diagnostics.study import Diagnose, study
from bench.studies.session import run_study

main = partial(run_study, "diagnose", Diagnose, study)

if __name__ == "__main__":
    raise SystemExit(main())
