"""`attnbench convert`: how much of a trained softmax model survives a change of mechanism."""

from functools import partial

from bench.studies.convert.study import Convert, study
from bench.studies.session import run_study

main = partial(run_study, "convert", Convert, study)

if __name__ == "__main__":
    raise SystemExit(main())
