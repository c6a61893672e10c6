"""`attnbench explain`: which tokens a trained model's answers rest on."""

from __future__ import annotations

import sys
from functools import partial

from bench.studies.explain.running import Explain
from bench.studies.explain.study import study
from bench.studies.session import run_study

main = partial(run_study, "explain", Explain, study)

if __name__ == "__main__":
    sys.exit(main())
