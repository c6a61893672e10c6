"""`attnbench hybrids`: train mixers alone and beside softmax layers, and compare orders."""

from functools import partial

from bench.studies.hybrids import Hybrids, study
from bench.studies.session import run_study

main = partial(run_study, "hybrids", Hybrids, study)

if __name__ == "__main__":
    raise SystemExit(main())
