"""`attnbench selftest`: compare this tree with itself, and write the page."""

from functools import partial

from bench.studies.selftest.study import Selftest, study
from bench.studies.session import run_study

main = partial(run_study, "selftest", Selftest, study)

if __name__ == "__main__":
    raise SystemExit(main())
