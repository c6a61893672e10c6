"""`attnbench explain`: which tokens a trained model's answers rest on."""

from functools import partial

from bench.studies.explain.study import Explain, study
from bench.studies.session import run_study

main = partial(run_study, "explain", Explain, study)

if __name__ == "__main__":
    raise SystemExit(main())
