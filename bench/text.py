"""`attnbench text`: language models of a novelist's bytes, compared and scaled."""

from functools import partial

from bench.studies.session import run_study
from bench.studies.text.study import Text, study

main = partial(run_study, "text", Text, study)

if __name__ == "__main__":
    raise SystemExit(main())
