"""`attnbench memory`: bytes that each user's context takes, in shipped models and in rows."""

from functools import partial

from bench.studies.memory import Memory, study
from bench.studies.session import run_study

main = partial(run_study, "memory", Memory, study)

if __name__ == "__main__":
    raise SystemExit(main())
