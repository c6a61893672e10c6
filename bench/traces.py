"""`attnbench traces`: whether decoders in Transformers answer alike however a prompt is cut."""

from functools import partial

from bench.studies.session import run_study
from bench.studies.traces import Traces, study

main = partial(run_study, "traces", Traces, study)

if __name__ == "__main__":
    raise SystemExit(main())
