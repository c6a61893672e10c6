"""`attnbench advise`: which mechanism to take, by what is stored. Needs no torch."""

from functools import partial

from bench.studies.advise.evidence import Advise
from bench.studies.advise.study import study
from bench.studies.session import run_study

main = partial(run_study, "advise", Advise, study, writes=())

if __name__ == "__main__":
    raise SystemExit(main())
