"""`attnbench text`: language models of a novelist's bytes, compared and scaled."""

from __future__ import annotations

import sys
from functools import partial

from bench.studies.session import run_study
from bench.studies.text.study import Text, study

main = partial(run_study, "text", Text, study)

if __name__ == "__main__":
    sys.exit(main())
