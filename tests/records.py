"""Made-up records that look like measured ones, for tests of everything behind the store.

Latencies follow each mechanism's complexity, a clock that drifts from round to round, and noise;
all of it from a seed, so two calls give equal records.
"""

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.core.cell import Cell, KernelWorkload, ModelWorkload, TaskWorkload
from bench.core.record import Quality, Record, Speed, Status
from bench.core.store import Store

ENVIRONMENT: dict[str, Any] = {
    "platform": "Linux-6.1-x86_64",
    "processor": "Imaginary 9000",
    "num_cores": 2,
    "memory_bytes": 24 * 2**30,
    "versions": {"python": "3.11.7", "torch": "2.13.0", "numpy": "2.4.6"},
    "devices": {"cpu": "Imaginary 9000"},
    "allocator": "retain",
    "worker_environment": {"MALLOC_TRIM_THRESHOLD_": "4294967296"},
    "commit": "0" * 40,
    "is_dirty": False,
}
SWEEP = "2031-05-06T070809-abc123"

# (linear, quadratic): seconds of a call at seq_len N are linear * N + quadratic * N * N.
_COSTS: dict[str, tuple[float, float]] = {
    "softmax": (6e-7, 4.0e-9),
    "softmax_explicit": (6e-7, 1.4e-8),
    "linear": (9e-7, 0.0),
    "performer": (2.6e-6, 0.0),
    "flatten": (2.1e-6, 0.0),
    "nala": (3.0e-6, 0.0),
    "nala_cosine": (3.02e-6, 0.0),
    "uniform": (1.5e-7, 0.0),
    "none": (2e-8, 0.0),
}
_ACCURACIES = {
    "softmax": 0.998,
    "softmax_explicit": 0.998,
    "linear": 0.975,
    "performer": 0.82,
    "flatten": 0.91,
    "nala": 0.955,
    "nala_cosine": 0.93,
    "uniform": 0.14,
    "none": 0.031,
}
ENTRIES = tuple(_COSTS)


def kernel_cell(entry: str = "softmax", **changes: Any) -> Cell:
    """A cell that times; keyword arguments change fields of the cell or of its workload."""
    shape = {
        "seq_len": 256,
        "batch_size": 1,
        "num_heads": 4,
        "head_dim": 64,
        "dtype": "float32",
        "mode": "forward",
        "causal": False,
        "scope": "core",
        "cache": "warm",
        "compile": "eager",
        "num_kv_heads": None,
        "key_len": None,
        "padding": 0.0,
        "ragged": 0.0,
    }
    rest = {
        "entry": entry,
        "mechanism": entry,
        "hyperparameters": {},
        "device": "cpu",
        "num_threads": 1,
    }
    for name, value in changes.items():
        (shape if name in shape else rest)[name] = value
    return Cell(workload=KernelWorkload(**shape), **rest)


def model_cell(entry: str = "softmax", **changes: Any) -> Cell:
    """A cell that times a whole model; keyword arguments change fields of its workload."""
    shape: dict[str, Any] = {"model": "nalaformer_xt", "image_size": 224, "batch_size": 1}
    shape |= {"dtype": "float32", "mode": "forward"} | changes
    return Cell(
        entry=entry,
        mechanism=entry,
        hyperparameters={},
        device="cpu",
        num_threads=1,
        workload=ModelWorkload(**shape),
    )


def model_records(
    entries: Iterable[str] = ("original", "softmax", "nala"), *, first_s: float = 0.1, **shape: Any
) -> list[Record]:
    """One block of whole models; each entry is half as fast as the one before it."""
    samples = {entry: [first_s * 2**i] * 8 for i, entry in enumerate(entries)}
    return [
        ok_record(
            model_cell(entry, **shape),
            speed(
                mine,
                [2 * first_s] * 8,
                tokens_per_call=0,
                num_parameters=8_000_000,
                flops=2_000_000_000,
                peak_memory_bytes=2**24,
            ),
        )
        for entry, mine in samples.items()
    ]


def task_cell(entry: str = "softmax", task: str = "recall", seed: int = 0, **changes: Any) -> Cell:
    """A cell that trains, at a rate that was searched for it unless something else is said."""
    settings = changes.pop("settings", {"num_steps": 600, "batch_size": 64})
    shared_rate = changes.pop("shared_rate", 0.006)
    rest = {"mechanism": entry, "hyperparameters": {}, "device": "cpu", "num_threads": 1}
    work = TaskWorkload(
        label=task, task=task, settings=settings, seed=seed, shared_rate=shared_rate
    )
    return Cell(entry=entry, workload=work, **(rest | changes))


def speed(
    samples: Sequence[float],
    others: Sequence[float] | None = None,
    **changes: Any,
) -> Speed:
    """A result with one sample per round; the reference's samples are the same unless given."""
    beside = samples if others is None else others
    values: dict[str, Any] = {
        "latency_s": tuple(samples),
        "rounds": tuple(range(len(samples))),
        "reference_latency_s": tuple(beside),
        "reference_rounds": tuple(range(len(beside))),
        "tokens_per_call": 256,
        "stop_reason": "precise",
    }
    return Speed(**(values | changes))


def ok_record(cell: Cell, result: Speed | Quality, **changes: Any) -> Record:
    """A record with a result."""
    return _record(cell, status=Status.OK, result=result, **changes)


def changed(record: Record, **result: Any) -> Record:
    """The same record with another result."""
    assert record.result is not None
    return replace(record, result=replace(record.result, **result))


def ceiling(**changes: Any) -> dict[str, Any]:
    """The ceiling of a calibrated machine, as it is stored."""
    where = {"device": "cpu", "device_name": "Imaginary 9000", "dtype": "float32"}
    usual = {"num_threads": 1, "flops_per_s": 1e9, "bytes_per_s": [[10**9, 1e12]]}
    return where | usual | changes


def stored(out: Path, *records: Record, name: str = "a") -> Path:
    """Add records to a file of a store, and return that file."""
    file = Store(out, name)
    for record in records:
        file.append(record)
    return file.path


def with_work(record: Record, **changes: Any) -> Record:
    """The same record of a cell whose workload has these fields."""
    return replace(
        record, cell=replace(record.cell, workload=replace(record.cell.workload, **changes))
    )


def failed_record(cell: Cell, status: Status, reason: str, **changes: Any) -> Record:
    """A record without a result, with a reason."""
    return _record(cell, status=status, reason=reason, **changes)


def _record(cell: Cell, **values: Any) -> Record:
    common = {
        "environment": ENVIRONMENT,
        "freshness": "f" * 16,
        "started_at": "2031-05-06T07:08:09Z",
        "sweep": SWEEP,
        "cost_s": {"measured": 0.9, "total": 1.0},
    }
    return Record(cell=cell, **(common | values))


def block_records(
    entries: Iterable[str] = ENTRIES, *, num_rounds: int = 30, seed: int = 0, **shape: Any
) -> list[Record]:
    """One block: its entries timed in interleaved rounds on a clock that drifts."""
    draw = random.Random(f"{seed} {sorted(shape.items())}")
    drift, factors = 1.0, []
    for _ in range(num_rounds):
        drift *= math.exp(draw.gauss(0.01, 0.08))
        factors.append(drift)
    beside = _timed("softmax", factors, draw, **shape)
    records = []
    for entry in entries:
        cell = kernel_cell(entry, **shape)
        samples = beside if entry == "softmax" else _timed(entry, factors, draw, **shape)
        records.append(ok_record(cell, _observed(cell, samples, beside, draw)))
    key = f"{kernel_cell(**shape).key}-{seed}-{num_rounds}"  # as of samples, which these decide
    return [changed(record, rounds_key=key) for record in records]


def _timed(
    entry: str, factors: Sequence[float], draw: random.Random, **shape: Any
) -> tuple[float, ...]:
    work = kernel_cell(entry, **shape).kernel
    linear, quadratic = _COSTS[entry]
    base = 2e-6 + linear * work.seq_len + quadratic * work.seq_len**2
    base *= {"float32": 1.0, "bfloat16": 1.6}.get(work.dtype, 1.0) * work.batch_size
    base *= 3.1 if work.mode == "forward_backward" else 1.0
    return tuple(base * factor * math.exp(draw.gauss(0, 0.01)) for factor in factors)


def _observed(
    cell: Cell, samples: Sequence[float], reference: Sequence[float], draw: random.Random
) -> Speed:
    work = cell.kernel
    tokens = work.batch_size * work.seq_len
    is_quadratic = cell.entry in ("softmax", "softmax_explicit")
    width = work.seq_len if is_quadratic else 2 * work.head_dim
    flops = 4 * tokens * work.num_heads * work.head_dim * width
    flops = 0 if cell.entry == "none" else flops
    bytes_of_one = 2 if work.dtype in ("bfloat16", "float16") else 4
    inputs = tokens * work.num_heads * work.head_dim * bytes_of_one
    scores = tokens * work.num_heads * work.seq_len * bytes_of_one
    peak = inputs * (2 if is_quadratic else 5) + (scores if cell.entry == "softmax_explicit" else 0)
    backward = 3 if work.mode == "forward_backward" else 1
    return speed(
        samples,
        reference,
        tokens_per_call=tokens,
        flops=flops * backward,
        executed_flops=flops * backward,
        counted_flops=flops * backward,
        elementwise_elements=tokens * work.num_heads * work.head_dim,
        num_operators=12,
        peak_memory_bytes=0 if cell.entry == "none" else peak * backward,
        saved_for_backward_bytes=inputs * 3 if backward == 3 else None,
        num_parameters=0,
        first_call_s=samples[0] * 4,
        max_error=draw.uniform(1e-7, 1e-6),
        rms_error=draw.uniform(1e-8, 1e-7),
        load={"foreign_cores": 0.05, "steal_share": 0.0, "load_average": 1.2},
    )


def task_records(
    entries: Iterable[str] = ENTRIES, *, task: str = "recall", seeds: Iterable[int] = (0, 1, 2)
) -> list[Record]:
    """Every entry on a task, with each seed."""
    draw = random.Random(task)
    hardness = {"recall": 0.0, "digits": 0.35}[task]
    chance = {"recall": 1 / 32, "digits": 0.1}[task]
    records = []
    for entry in entries:
        for seed in seeds:
            accuracy = _ACCURACIES.get(entry, 0.9) * (1 - hardness) + 0.97 * hardness
            accuracy = min(1.0, max(0.0, accuracy + draw.gauss(0, 0.01)))
            quality = Quality(
                accuracy=accuracy,
                chance=chance,
                guess="one of the possible answers, all equally likely",
                num_examples=1000,
                num_parameters=70_000,
                losses=(3.4, 1.1, 0.2),
                train_s=21.0,
            )
            records.append(ok_record(task_cell(entry, task, seed), quality))
    return records


def one_of_each_failure() -> list[Record]:
    """A record of every status but ok."""
    reasons = {
        Status.SKIPPED: "flatten has no causal form | it sees\nall keys.",
        Status.OUT_OF_MEMORY: "It asked for 64 GiB; 20 GiB were free.",
        Status.INCORRECT: "The output differs from the oracle by 0.31; 0.001 is allowed.",
        Status.DIVERGED: "The loss was nan after step 40.",
        Status.TIMED_OUT: "Nothing was heard for 60 s in step 'trial'.",
        Status.CRASHED: "The worker was killed by SIGSEGV.",
        Status.ERROR: "RuntimeError: shapes do not match.",
    }
    cells = {
        Status.SKIPPED: kernel_cell("flatten", causal=True),
        Status.OUT_OF_MEMORY: kernel_cell("softmax_explicit", seq_len=131072),
        Status.INCORRECT: kernel_cell("linear", dtype="float16"),
        Status.DIVERGED: task_cell("nala", "recall", 7),
        Status.TIMED_OUT: kernel_cell("performer", seq_len=131072),
        Status.CRASHED: kernel_cell("nala", dtype="float16"),
        Status.ERROR: kernel_cell("nala_cosine", dtype="float16"),
    }
    return [failed_record(cells[status], status, reasons[status]) for status in reasons]


def sweep_records() -> list[Record]:
    """A whole sweep: kernel cells, task cells and one of each failure."""
    records = []
    for dtype in ("float32", "bfloat16"):
        for mode in ("forward", "forward_backward"):
            for seq_len in (256, 1024, 4096):
                entries = [e for e in ENTRIES if e != "softmax_explicit" or seq_len <= 1024]
                records += block_records(entries, seq_len=seq_len, dtype=dtype, mode=mode)
    for task in ("recall", "digits"):
        records += task_records(task=task)
    return records + one_of_each_failure()


def of_sweep(record: Record, sweep: str) -> Record:
    """The same record, of another sweep."""
    return replace(record, sweep=sweep)
