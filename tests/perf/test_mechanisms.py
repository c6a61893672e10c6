"""Every entry at small shapes, for pytest-benchmark's runner and storage; skipped in ordinary runs.

``pytest tests/perf --benchmark-only --benchmark-autosave``, then ``pytest-benchmark compare``.
Seconds of two processes differ by what these were born with; ``speedup_over_softmax``, timed in
interleaved rounds within one, differs less.
"""

import os
from functools import cache

import pytest

from bench.core.cli.entries import read_attention_entries
from bench.core.record import METHOD_VERSION
from bench.core.rows import row_labels, settings_of
from bench.core.statistics import median, paired_ratio
from bench.measuring.device import device_named
from bench.measuring.measure.latency import round_order, time_round, warm_up
from tests.records import kernel_cell

ENTRIES = row_labels()
SHAPES = ((256, "forward"), (256, "forward_backward"), (1024, "forward"))

MIN_SAMPLE_S = 0.001
BUDGET_S = 0.25
"""Number of rounds beside softmax, and of pytest-benchmark's own."""


@cache
def hyperparameters(label):
    from bench.measuring.plan import checked_hyperparameters

    (entry,) = read_attention_entries({label: settings_of(label)})
    return entry.mechanism, checked_hyperparameters(entry)


def cell_of(label, seq_len, mode):
    """At scope core; a mechanism that owns its projections, at scope layer."""
    from attentions import attention_class

    mechanism, settings = hyperparameters(label)
    scopes = attention_class(mechanism).capabilities.scopes
    return kernel_cell(
        label,
        mechanism=mechanism,
        hyperparameters=settings,
        seq_len=seq_len,
        num_heads=2,
        mode=mode,
        scope="core" if "core" in scopes else "layer",
    )


@pytest.fixture
def one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def without_noise(subject):
    """Exact numbers, which a comparison does not let grow."""

    from bench.measuring.building import shape_of
    from bench.measuring.measure import flops, memory

    work, first = subject.cell.kernel, subject.sets[0]
    saved = 0
    if work.has_backward:
        saved = memory.saved_for_backward_bytes(lambda: subject.forward(first), subject.parameters)
    useful = subject.module.flops(shape_of(work))
    executed = subject.module.executed_flops(shape_of(work))
    return {
        "flops": work.flops_factor * useful,
        "executed_flops": work.flops_factor * executed,
        "peak_memory_bytes": device_named("cpu").profile(subject.call).peak_bytes,
        "saved_for_backward_bytes": saved,
        "num_operators": flops.count(subject.eager_call).num_operators,
    }


def num_rounds(seconds_per_round):
    return min(50, max(7, int(BUDGET_S / seconds_per_round)))


@pytest.mark.parametrize(("seq_len", "mode"), SHAPES)
@pytest.mark.parametrize("label", ENTRIES)
def test_one_call(benchmark, one_thread, label, seq_len, mode):
    from bench.measuring.plan import reference_cell
    from bench.measuring.subject import Subject
    from bench.measuring.support import why_not

    cell = cell_of(label, seq_len, mode)
    if (reason := why_not(cell)) is not None:
        pytest.skip(reason)
    subject, softmax = Subject(cell), Subject(reference_cell(cell))
    exact = without_noise(subject)
    subject.rotate()
    softmax.rotate()
    clock = device_named("cpu")
    members = [warm_up(one.call, clock, MIN_SAMPLE_S) for one in (subject, softmax)]
    first = time_round(members, (0, 1), clock)
    counts = [member.calls_per_sample for member in members]
    numbers = range(num_rounds(sum(s * n for s, n in zip(first, counts, strict=True))))
    rounds = [time_round(members, round_order(2, seq_len, n), clock) for n in numbers]
    times, softmax_times = zip(*rounds, strict=True)
    ratio = paired_ratio(times, numbers, softmax_times, numbers)

    benchmark.group = f"seq_len={seq_len} {cell.kernel.scope} {mode}"
    benchmark.extra_info |= {
        "entry": label,
        "mechanism": cell.mechanism,
        "cell": cell.describe(),
        "device": cell.device,
        "num_threads": cell.num_threads,
        "allocator": "set" if any(n.startswith("MALLOC_") for n in os.environ) else "default",
        "method_version": METHOD_VERSION,
        "speedup_over_softmax": ratio.median,
        "speedup_over_softmax_low": ratio.low,
        "speedup_over_softmax_high": ratio.high,
    }
    benchmark.extra_info |= exact

    benchmark.pedantic(
        subject.call,
        rounds=num_rounds(min(times) * counts[0]),
        iterations=counts[0],
        warmup_rounds=1,
    )


@pytest.mark.parametrize("mode", ["forward", "forward_backward"])
@pytest.mark.parametrize("seq_len", [64, 256, 1024])
def test_softmax_as_the_harness_calls_it_and_sdpa_alone(benchmark, one_thread, seq_len, mode):
    """Both in the same rounds; ``extra_info`` has what the harness's call adds, in seconds."""
    import torch

    from bench.measuring.subject import Subject

    subject = Subject(cell_of("softmax", seq_len, mode))
    q, k, v, cotangent = subject.sets[0]
    attend = torch.nn.functional.scaled_dot_product_attention

    def forward():
        with torch.no_grad():
            attend(q, k, v)

    def forward_backward():
        torch.autograd.grad(attend(q, k, v), (q, k, v), cotangent)

    raw = forward if mode == "forward" else forward_backward
    clock = device_named("cpu")
    members = [warm_up(call, clock, MIN_SAMPLE_S) for call in (subject.call, raw)]
    numbers = range(num_rounds(2 * MIN_SAMPLE_S))
    rounds = [time_round(members, round_order(2, seq_len, n), clock) for n in numbers]
    times, raw_times = zip(*rounds, strict=True)
    ratio = paired_ratio(raw_times, numbers, times, numbers)
    added_s = median([ours - alone for ours, alone in rounds])

    benchmark.group = f"softmax and raw SDPA, seq_len={seq_len} {mode}"
    benchmark.extra_info |= {"over_raw_sdpa": ratio.median, "added_s": added_s}
    print(f"\n{benchmark.group}: {ratio.median:.3f} times as long, {1e6 * added_s:+.1f} us")
    benchmark.pedantic(
        subject.call,
        rounds=num_rounds(min(times) * members[0].calls_per_sample),
        iterations=members[0].calls_per_sample,
        warmup_rounds=1,
    )
