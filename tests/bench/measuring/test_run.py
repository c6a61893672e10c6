"""Whatever a mechanism does, its cell ends as one typed record and its neighbours do not notice."""

import itertools
import sys
from dataclasses import replace
from tempfile import TemporaryDirectory

import pytest

from bench.core.record import Status
from bench.measuring.config import read_sweep_config
from bench.measuring.device.cpu import Cpu
from bench.measuring.machine import environment
from bench.measuring.plan import plan
from bench.measuring.run import Runner, is_measured
from bench.measuring.worker.jobs import Interrupt, Interrupted, Jobs
from bench.measuring.worker.launch import WorkerServer
from bench.measuring.worker.outcome import Outcome
from bench.measuring.worker.training import Trainings
from tests.bench.measuring.test_config import BASE

PLUGIN = "tests.misbehaving"
QUICK = BASE["measure"] | {"budget_s": 0.02, "max_rounds": 8}
SHORT = {"recall": {"task": "recall", "num_steps": 2, "num_test_examples": 64}}


class Silent:
    def say(self, words):
        pass

    announce = say


def records_of(workers, names, interrupt=None, roofs=None, **changes):
    """Records of a sweep over plug-in mechanisms."""
    with TemporaryDirectory() as out:
        config = read_sweep_config(
            BASE
            | {
                "out": out,
                "attention": {name: {"mechanism": name} for name in names},
                "task": {},
                "seq_len": 64,
                "head_dim": 16,
                "plugins": [PLUGIN],
                "measure": QUICK,
                "run": BASE["run"] | {"timeout_s": 2},
            }
            | changes
        )
        here = environment.current(("cpu",), "retain", workers.environment())
        with interrupt or Interrupt() as asked:
            jobs = Jobs(workers, config.run.timeout_s, asked)
            runner = Runner(config, here, jobs, Silent(), "test", roofs=roofs)
            return list(runner.run(plan(config, workers)))


def run(workers, names, **changes):
    """The same of one shape, by entry."""
    return {record.cell.entry: record for record in records_of(workers, names, **changes)}


NO_TENSOR = {"gives_none": "NoneType", "gives_two": "tuple", "gives_numpy": "ndarray"}
NO_TENSORS = [
    (name, Status.ERROR, f"it gives a value of type {kind}; a tensor is expected")
    for name, kind in NO_TENSOR.items()
]
MISFORTUNES = [
    ("zeros", Status.INCORRECT, "zero everywhere"),
    ("constant", Status.INCORRECT, "the same value everywhere, 0.5"),
    ("not_a_number", Status.INCORRECT, "NaN"),
    ("noise", Status.INCORRECT, "differs from the oracle"),
    ("fixed_noise", Status.INCORRECT, "differs from the oracle"),
    ("wrong_shape", Status.INCORRECT, "shape"),
    ("hang", Status.TIMED_OUT, "no answer for 2 s in step 'first call'"),
    ("segfault", Status.CRASHED, "SIGSEGV"),
    ("exhaust", Status.OUT_OF_MEMORY, "memory"),
    ("killed", Status.OUT_OF_MEMORY, "SIGKILL"),
    ("raises", Status.ERROR, "RuntimeError: a bug"),
    ("lies_about_time", Status.ERROR, "its clock, or what it times, was tampered with"),
    *NO_TENSORS,
]
if sys.platform == "linux":  # a limit of Linux
    MISFORTUNES.append(("hoard", Status.OUT_OF_MEMORY, "can't allocate memory"))
NEIGHBOURS = ["good", "wrong_gradient"]
"""The second is wrong in its backward pass alone."""
BACKWARD = [*NO_TENSORS, ("wrong_gradient", Status.INCORRECT, "gradient of input")]


@pytest.fixture(scope="module")
def forward(workers):
    """All misfortunes and two sound rows in one block, by entry."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.measuring.run.PLUGIN_TIMEOUT_S", 1.0)
        return run(workers, [*(name for name, *_ in MISFORTUNES), *NEIGHBOURS])


@pytest.fixture(scope="module")
def backward(workers):
    """The same of those that only a backward pass, or it as well, goes wrong in."""
    names = [*(name for name, *_ in BACKWARD), "good"]
    return run(workers, names, mode="forward_backward")


@pytest.mark.parametrize(("name", "status", "words"), MISFORTUNES)
def test_misfortune_becomes_a_status(forward, name, status, words):
    assert forward[name].status is status
    assert words in forward[name].reason


@pytest.mark.parametrize(("name", "status", "words"), BACKWARD)
def test_misfortune_of_a_backward_pass_becomes_a_status(backward, name, status, words):
    assert backward[name].status is status
    assert words in backward[name].reason


def test_misfortune_harms_no_neighbour(forward, backward):
    for record in (*(forward[name] for name in NEIGHBOURS), backward["good"]):
        assert record.status is Status.OK, record.reason


def test_what_a_plugins_constructor_does_is_told_by_its_own_cells_alone(workers):
    entries = {
        "even_only": {"mechanism": "even_only"},
        "hopeless": {"mechanism": "even_only", "window": -1},
        "leaves": {"mechanism": "even_only", "leaves": True},
        "good": {"mechanism": "good"},
    }
    records = run(workers, ["good"], attention=entries, head_dim=[15])
    assert records["even_only"].status is Status.SKIPPED
    assert records["even_only"].reason.startswith("even_only cannot be built: head_dim is 15")
    assert records["hopeless"].status is Status.ERROR
    assert records["hopeless"].reason == "ValueError: head_dim is 15, window is -1"
    assert records["leaves"].status is Status.CRASHED
    assert records["good"].status is Status.OK


BAD_TASKS = {
    "asserting_task": "AssertionError: seven pairs",
    "leaving_task": "SystemExit: 0",
    "task_with_a_word_for_files": "the task task_with_a_word_for_files has files() of type str; "
    "it is a tuple of paths",
    "task_with_a_method_for_geometry": "the task task_with_a_method_for_geometry has geometry of "
    "type method; it is a property, a Geometry",
    "task_without_a_guess": "the task task_without_a_guess has guess of type NoneType; it is the "
    "answer that ignores the input, in words",
    "task_without_batches": "ValueError: the task task_without_batches has no batches to train on",
}


def test_a_plugins_task_that_raises_or_is_none_is_told_by_its_own_cells(workers):
    entries = ["softmax", "good"]
    tasks = {name: {"task": name} for name in BAD_TASKS}
    sound = {"sound": SHORT["recall"]}
    records = records_of(workers, entries, task=tasks | sound, seq_len=[])
    told = {(r.cell.workload.label, r.cell.entry): (r.status, r.reason) for r in records}
    for name in entries:
        assert told.pop(("sound", name)) == (Status.OK, None)
    assert told == {
        (task, name): (Status.ERROR, words) for task, words in BAD_TASKS.items() for name in entries
    }


def compiled_kernels(workers):
    """Files that compilers left for the workers of a server."""
    return sorted(workers._folder.rglob("*.so"))


def test_what_compilers_left_goes_with_the_server_of_the_workers_that_were_killed():
    with WorkerServer() as own:
        assert run(own, ["litter"])["litter"].status is Status.OUT_OF_MEMORY
        (kernel,) = compiled_kernels(own)
    assert not kernel.parent.exists()


def test_who_ends_the_shared_worker_is_found_and_the_others_are_timed(workers):
    records = run(workers, ["good", "crash_later", "linear"])
    assert records["crash_later"].status is Status.CRASHED
    assert "exit code 7" in records["crash_later"].reason
    assert records["good"].status is Status.OK and records["linear"].status is Status.OK
    assert records["linear"].result.reference_latency_s


def test_the_reference_has_a_record_of_its_own_only_where_it_is_planned(workers):
    (alone,) = (record.result for record in records_of(workers, ["linear"]))
    assert len(alone.reference_latency_s) == len(alone.latency_s) >= QUICK["min_rounds"]
    assert alone.rounds == alone.reference_rounds
    both = run(workers, ["linear", "softmax"])
    assert set(both) == {"linear", "softmax"}
    assert both["softmax"].result.latency_s == both["softmax"].result.reference_latency_s
    assert both["linear"].result.fresh_speedup > 0
    assert both["softmax"].result.fresh_speedup is None


def test_a_record_says_what_was_observed(workers):
    record = run(workers, ["softmax"], mode="forward_backward")["softmax"]
    speed = record.result
    assert speed.flops == 3 * 4 * 4 * 64 * 64 * 16
    assert speed.tokens_per_call == 64
    assert speed.peak_memory_bytes > 0 and speed.saved_for_backward_bytes > 0
    assert speed.first_call_s > 0 and speed.warmup_s and speed.calls_per_sample >= 1
    assert speed.rms_error < 1e-4
    assert speed.stop_reason in {"precise", "budget", "rounds"}
    assert record.cost_s["total"] >= record.cost_s["measured"] > 0
    assert record.environment["versions"]["torch"] and record.environment["allocator"] == "retain"


def test_what_cannot_fit_is_skipped_at_once_with_the_estimate(workers, monkeypatch):
    monkeypatch.setattr(Cpu, "free_bytes", lambda device: 2**20)
    record = run(workers, ["softmax_explicit"], seq_len=131_072, head_dim=64)["softmax_explicit"]
    assert record.status is Status.SKIPPED
    assert "GiB by a dry run" in record.reason


class InterruptAfter(Interrupt):
    """Ctrl-C at the nth time that somebody looks."""

    def __init__(self, looks):
        super().__init__()
        self.looks = itertools.count(1)
        self.after = looks

    @property
    def is_asked(self):
        return next(self.looks) > self.after

    @is_asked.setter
    def is_asked(self, value):
        pass


def test_an_interrupt_in_a_trial_leaves_no_record_and_no_worker(workers):
    with pytest.raises(Interrupted):
        run(workers, ["hang"], interrupt=InterruptAfter(2))
    assert run(workers, ["good"])["good"].status is Status.OK


def test_training_ends_as_a_record_with_a_quality(workers):
    record = run(workers, ["linear"], seq_len=[], task=SHORT)["linear"]
    assert record.status is Status.OK
    assert 0 <= record.result.accuracy <= 1 and record.result.train_s > 0


def test_training_that_takes_too_long_is_a_typed_record(workers):
    limits = BASE["run"] | {"task_timeout_s": 0.5}
    task = {"recall": {"task": "recall", "num_steps": 100_000}}
    record = run(workers, ["linear"], seq_len=[], task=task, run=limits)["linear"]
    assert record.status is Status.TIMED_OUT and "0.5 s" in record.reason


def test_what_may_have_had_outside_reasons_is_tried_again(forward):
    record = forward["raises"]
    assert not is_measured(record)
    assert is_measured(replace(record, status=Status.INCORRECT))


def kept_until_stopped(workers, monkeypatch, names, **changes):
    """Records that were made before `Interrupted`."""
    kept = []
    record = Runner._record

    def keep(self, *words, **named):
        kept.append(record(self, *words, **named))
        return kept[-1]

    monkeypatch.setattr(Runner, "_record", keep)
    with pytest.raises(Interrupted):
        run(workers, names, **changes)
    return kept


def test_an_interrupt_while_noisy_rounds_are_repeated_keeps_the_first_ones(workers, monkeypatch):
    rounds = Runner._do_rounds
    calls = itertools.count(1)

    def noisy_then_stopped(self, *words):
        if next(calls) == 2:
            self._jobs.interrupt.is_asked = True
            raise Interrupted
        done = rounds(self, *words)
        result = replace(done.outcome.found, is_noisy=True)
        return replace(done, outcome=replace(done.outcome, result=result))

    monkeypatch.setattr(Runner, "_do_rounds", noisy_then_stopped)
    (record,) = kept_until_stopped(workers, monkeypatch, ["good"])
    assert record.status is Status.OK and record.result.is_noisy


def test_an_interrupt_keeps_training_that_has_ended_meanwhile(workers, monkeypatch):
    ended = Outcome(status=Status.DIVERGED, reason="ended")
    monkeypatch.setattr(
        "bench.measuring.worker.training.TICK_S", 60.0
    )  # long enough for the worker's first word
    monkeypatch.setattr(Trainings, "_hear", lambda self, *words: ended)
    interrupt = Interrupt()
    interrupt.is_asked = True
    (record,) = kept_until_stopped(
        workers, monkeypatch, ["linear"], seq_len=[], task=SHORT, interrupt=interrupt
    )
    assert record.reason == "ended"


def test_a_row_is_timed_beside_the_reference_that_is_named_for_it(workers):
    reference = {"linear": "uniform", "good": "linear"}
    records = run(workers, ["good", "linear", "softmax"], reference=reference)
    found = {name: record.result.reference for name, record in records.items()}
    assert found == {
        "good": "linear",
        "linear": "uniform",
        "uniform": "softmax",
        "softmax": "softmax",
    }
    results = {name: record.result for name, record in records.items()}
    assert results["good"].reference_latency_s == results["linear"].latency_s
    assert results["linear"].reference_latency_s == results["uniform"].latency_s
    assert results["linear"].reference_key == records["uniform"].cell.key


def test_a_wrong_reference_is_no_yardstick(workers):
    records = run(workers, ["good", "fixed_noise"], reference={"good": "fixed_noise"})
    assert records["fixed_noise"].status is Status.INCORRECT
    assert records["good"].status is Status.OK
    assert records["good"].result.reference_latency_s == ()


def test_rounds_of_several_processes_are_numbered_through_and_kept_apart(workers):
    measure = QUICK | {"num_processes": 3, "min_rounds": 6, "max_rounds": 6}
    result = run(workers, ["good"], measure=measure)["good"].result
    assert result.rounds == (0, 1, 2, 3, 4, 5) and result.processes == (0, 0, 1, 1, 2, 2)
    assert len(result.reference_latency_s) == 6


@pytest.mark.slow
def test_eager_and_compiled_are_timed_in_the_same_rounds_with_the_kernels_of_the_trial(
    workers, monkeypatch
):
    kernels = []
    do_rounds = Runner._do_rounds

    def look(self, *words):
        kernels.append(compiled_kernels(workers))
        done = do_rounds(self, *words)
        kernels.append(compiled_kernels(workers))
        return done

    monkeypatch.setattr(Runner, "_do_rounds", look)
    config = read_sweep_config(
        BASE
        | {"attention": {"linear": {"mechanism": "linear"}}, "task": {}, "seq_len": 64}
        | {"compile": ["eager", "inductor"], "measure": QUICK}
    )
    here = environment.current(("cpu",), "retain", workers.environment())
    with Interrupt() as asked:
        runner = Runner(config, here, Jobs(workers, 300, asked), Silent(), "test")
        eager, compiled = (record.result for record in runner.run(plan(config)))
    assert eager.reference_latency_s == compiled.reference_latency_s
    assert eager.compile_s is None and compiled.compile_s > 0
    assert kernels[0] and kernels[0] == kernels[1], "the rounds have compiled anew"


@pytest.mark.slow
def test_a_form_that_is_compiled_again_in_each_call_is_not_timed(workers):
    limits = BASE["run"] | {"timeout_s": 300}
    names = ["good", "new_graph_each_time"]
    records = run(workers, names, compile="inductor", run=limits)
    assert records["good"].status is Status.OK
    assert records["new_graph_each_time"].status is Status.ERROR
    assert "ecompil" in records["new_graph_each_time"].reason
