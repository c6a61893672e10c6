"""Stand-ins for workers, and rows and stored cells that were never measured."""

from pathlib import Path

from bench.core.record import Status
from bench.measuring.worker.jobs import Interrupt
from bench.measuring.worker.outcome import Outcome
from bench.measuring.worker.results import PairedRoundsResult, TrainResult, TrialResult
from bench.studies.gate.commits import Tree
from bench.studies.gate.rows import LATENCY, GateRow, GateVerdict, Interval
from bench.studies.gate.stored import Stored
from tests.records import kernel_cell

BASE = Tree(root=Path("/base"), commit="b" * 40, is_dirty=False)
OBSERVED = {
    "flops": 1000,
    "executed_flops": 1200,
    "peak_memory_bytes": 4096,
    "saved_for_backward_bytes": 0,
    "num_operators": 7,
}
TRIAL = TrialResult(
    **OBSERVED,
    measured_s=0.5,
    first_call_s=0.1,
    compile_s=None,
    max_error=0.0,
    rms_error=0.0,
    oracle="reference",
    checked_len=256,
    checked_share=1.0,
    is_view=False,
    leaks_future=False,
    flops_off=None,
    is_foreign=False,
    peak_rss_bytes=None,
    leaked_bytes=None,
    state_bytes=None,
    kept_share=None,
    tokens_per_call=64,
    counted_flops=1000,
    elementwise_elements=64,
    fvcore_flops=None,
    fvcore_unsupported={},
    num_parameters=0,
)


class FakeJobs:
    """Answers jobs by a function of the job's name, its request and who listens."""

    def __init__(self, answer):
        self.answer = answer
        self.asked = []
        self.interrupt = Interrupt()

    def do(self, job, *, on_message=None, may_stop=None, **request):
        self.asked.append((job.name, request))
        outcome = self.answer(job.name, request, on_message)
        assert outcome.result is None or type(outcome.result) is job.result
        return outcome


def ok(result):
    return Outcome(status=Status.OK, result=result)


def trained(accuracy, unit=""):
    sizes = {"guess": "any", "num_examples": 10, "num_parameters": 1}
    return ok(TrainResult(accuracy=accuracy, chance=0.1, unit=unit, **sizes, measured_s=0.5))


def died(reason="the worker was killed by SIGSEGV in step 'warm-up'"):
    return Outcome(status=Status.CRASHED, reason=reason)


def timed(on_message, ratios, latency_s=0.01):
    """A fork's rounds."""
    on_message({"step": "warm-up"})
    for ratio in ratios:
        on_message({"ratio": ratio})
    return ok(PairedRoundsResult(latency_s=latency_s, measured_s=0.1))


def row(verdict=GateVerdict.SAME, channel=LATENCY, entry="nala", **changes):
    values = {"ratio": 1.0, "low": 0.99, "high": 1.01} | changes
    return GateRow(
        entry=entry,
        mechanism=entry,
        cell=f"{entry} seq_len=64 float32 forward cpu",
        key=f"key-of-{entry}",
        channel=channel,
        verdict=verdict,
        **values,
    )


HERE = (1, "Imaginary 9000", "Imaginary 9000", "retain", 1)
"""Circumstances: METHOD_VERSION, processor, device, allocator, threads."""


def stored(entry="nala", median=0.5, half=0.01, **changes):
    """A cell that takes `median` of softmax's time, give or take a share `half` of it."""
    values = {
        "cell": kernel_cell(entry, seq_len=64),
        "circumstances": HERE,
        "time_over_softmax": Interval(median, median / (1 + half), median * (1 + half)),
        "why_untimed": None,
        "latency_s": median * 0.01,
        "exact": dict(OBSERVED),
        "failure": None,
        "is_skipped": False,
        "is_noisy": False,
    }
    return Stored(**(values | changes))


def failing(reason, **changes):
    """A cell without numbers."""
    return stored(time_over_softmax=None, exact={}, failure=reason, **changes)
