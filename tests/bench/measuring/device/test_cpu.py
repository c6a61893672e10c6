import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench.measuring.device import cpu as module
from bench.measuring.device import device_named
from bench.measuring.device.cpu import Cpu
from bench.measuring.measure.memory import saved_for_backward_bytes
from bench.measuring.worker.jobs import Interrupt, Jobs
from bench.measuring.worker.results import TRIAL
from tests.bench.core.test_cell import KERNEL

CPU = device_named("cpu")
linux_only = pytest.mark.skipif(
    sys.platform != "linux", reason="asks the system for more than POSIX"
)


def peak_bytes(call):
    return CPU.profile(call).peak_bytes


MIB = 2**20


def explicit(q, k, v):
    return (q @ k.transpose(-2, -1)).softmax(dim=-1) @ v


def test_inputs_are_not_counted():
    x = torch.randn(MIB)
    assert peak_bytes(lambda: x.mul_(1.0)) < 1024


def test_what_is_saved_for_backward_is_counted_once_per_storage():
    q = torch.randn(1, 2, 256, 64, requires_grad=True)
    weights, inputs = 2 * 256 * 256 * 4, q.numel() * 4
    saved = saved_for_backward_bytes(lambda: explicit(q, q, q), [])
    assert saved == weights + inputs


def test_a_view_that_is_saved_keeps_the_whole_of_its_storage_alive():
    x = torch.randn(4, 1000, requires_grad=True)

    def forward():
        whole = x * 2.0
        return whole[:, :100] * whole[:, 200:300]

    assert saved_for_backward_bytes(forward, []) == x.numel() * 4


def test_parameters_are_not_counted_as_saved():
    layer = torch.nn.Linear(64, 64)
    x = torch.randn(8, 64, requires_grad=True)
    assert saved_for_backward_bytes(lambda: layer(x), layer.parameters()) == x.numel() * 4


def test_a_device_that_cannot_be_measured_gives_none_and_not_another_number():
    assert device_named("meta").profile(lambda: None).peak_bytes is None
    assert device_named("meta").leaked_bytes(lambda: None, 1) is None


# Softmax written out, H=2, N=2048, D=64, forward and backward, counted by hand.
MATRIX = 2 * 2048 * 2048 * 4  # 32 MiB: the weights, and as large their gradient and the scores'
TENSOR = 2 * 2048 * 64 * 4  # 1 MiB: the output, and the gradient of the values


def test_a_backward_pass_at_2048_tokens_peaks_where_a_hand_count_says_to_the_byte():
    q, k, v = (torch.randn(1, 2, 2048, 64, requires_grad=True) for _ in range(3))
    cotangent = torch.randn(1, 2, 2048, 64)

    def call():
        return torch.autograd.grad(explicit(q, k, v), [q, k, v], cotangent)

    # The scores are gone by then, and the gradients of q and k are not there yet.
    assert peak_bytes(call) == 3 * MATRIX + 2 * TENSOR


@linux_only
def test_the_resident_peak_of_a_fresh_worker_agrees_with_the_same_hand_count(workers):
    sizes = {"seq_len": 2048, "num_heads": 2, "head_dim": 64, "mode": "forward_backward"}
    cell = replace(
        KERNEL,
        mechanism="softmax_explicit",
        hyperparameters={},
        workload=replace(KERNEL.kernel, dtype="float32", **sizes),
    )
    with Interrupt() as interrupt:
        trial = Jobs(workers, 60.0, interrupt).do(TRIAL, cell=cell.to_dict()).found
    # The mechanism also keeps its scaled queries, and the scale itself.
    by_hand = 3 * MATRIX + 3 * TENSOR + 8
    assert trial.peak_memory_bytes == by_hand
    assert trial.peak_rss_bytes == pytest.approx(by_hand, rel=0.03)


@linux_only
def test_a_larger_call_before_it_hides_nothing_of_a_resident_peak():
    def call():
        return torch.ones(40 * MIB, dtype=torch.uint8)

    torch.ones(200 * MIB, dtype=torch.uint8).sum()
    assert CPU.resident_peak_bytes(call) == pytest.approx(40 * MIB, rel=0.05)


@linux_only
def test_scratch_that_a_library_takes_once_and_keeps_is_no_part_of_a_calls_resident_peak():
    kept = []

    def call():
        if not kept:
            kept.append(torch.ones(80 * MIB, dtype=torch.uint8))
        return torch.ones(40 * MIB, dtype=torch.uint8)

    assert CPU.resident_peak_bytes(call) == pytest.approx(40 * MIB, rel=0.05)


@linux_only
def test_what_is_kept_of_each_call_is_a_leak_and_what_is_kept_of_one_is_none():
    kept = []

    def leak():
        kept.append(torch.ones(MIB, dtype=torch.uint8))

    def keep_once():
        if len(kept) < 20:
            kept.append(torch.ones(40 * MIB, dtype=torch.uint8))
            kept.extend([None] * 20)
        torch.ones(8 * MIB, dtype=torch.uint8)

    def tie_a_knot():
        knot = [torch.ones(MIB, dtype=torch.uint8)]
        knot.append(knot)

    assert CPU.leaked_bytes(tie_a_knot, 4) < 2**18
    assert CPU.leaked_bytes(leak, 4) == pytest.approx(MIB, rel=0.3)
    kept.clear()
    assert CPU.leaked_bytes(keep_once, 4) < 2**18


ROOT = Path(__file__).resolve().parents[4]

PROLOGUE = """
import resource, torch
from bench.measuring.device.cpu import Cpu
MIB, CPU = 2**20, Cpu("cpu")
torch.set_num_threads(1)

def allocates(num_bytes):
    try:
        torch.empty(num_bytes, dtype=torch.uint8)
    except RuntimeError as error:
        return f"out_of_memory={CPU.is_out_of_memory(error)}"
    return "allocated"
"""


PROGRAMS = """
Cpu.free_bytes = lambda device: 500 * MIB
CPU.limit_memory()
print(allocates(400 * MIB), allocates(600 * MIB), allocates(400 * MIB))
---
Cpu.free_bytes = lambda device: 100 * MIB
kept = torch.ones(500 * MIB, dtype=torch.uint8)
CPU.limit_memory()
print(allocates(50 * MIB), int(kept[-1]))
---
Cpu.free_bytes = lambda device: 2**50
resource.setrlimit(resource.RLIMIT_DATA, (2**40, 2**40))
CPU.limit_memory()
print(*resource.getrlimit(resource.RLIMIT_DATA))
"""
"""Each for a process of its own, as a limit cannot be taken back."""


@pytest.fixture(scope="module")
def said():
    """Output of the programs, each in a fork of one process that has loaded torch."""
    forks = f"""
import os
for program in {PROGRAMS.split("---")!r}:
    if not os.fork():
        exec(program)
        break
    assert os.wait()[1] == 0
"""
    done = subprocess.run(
        [sys.executable, "-c", PROLOGUE + forks],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@linux_only
def test_an_allocation_beyond_what_is_free_fails_and_one_within_does_not(said):
    assert said[0] == "allocated out_of_memory=True allocated"


@linux_only
def test_what_the_process_has_already_is_not_taken_from_it(said):
    assert said[1] == "allocated 1"


@linux_only
def test_a_limit_that_is_there_already_is_not_raised(said):
    assert said[2].split() == [str(2**40)] * 2


def test_a_containers_limit_counts_and_its_reclaimable_cache_is_free(monkeypatch, tmp_path):
    sizes = {"memory.max": 1000, "memory.current": 900}
    monkeypatch.setattr(module, "_read_int", lambda path: sizes[path.rpartition("/")[2]])
    stat = tmp_path / "memory.stat"
    stat.write_text("anon 500\ninactive_file 300\n")
    monkeypatch.setattr(module, "Path", lambda path: stat)
    assert CPU.free_bytes() == 400
    assert module.memory_limit_bytes() == 1000
    sizes["memory.max"] = 2**62  # more than the machine has
    assert module.memory_limit_bytes() < 2**60


@pytest.fixture
def caches(tmp_path, monkeypatch):
    """A processor's caches as the system lists them: `caches((level, size), …)`."""

    def write(*listed):
        for number, (level, size) in enumerate(listed):
            folder = tmp_path / f"index{number}"
            folder.mkdir()
            (folder / "level").write_text(f"{level}\n")
            (folder / "size").write_text(f"{size}\n")

    monkeypatch.setattr(module, "Path", lambda _: tmp_path)
    return write


def test_twice_the_last_level_cache_is_written(monkeypatch):
    monkeypatch.setattr(Cpu, "cache_levels_bytes", lambda device: (512, 4096))
    made = []
    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *a, **k: made.append(zeros(*a, **k)) or made[-1])
    flush = CPU.flusher()
    flush()
    assert made[0].numel() * 4 == 8192 and bool((made[0] == 1).all())


def test_caches_count_from_the_second_level_on_and_rise(caches):
    caches((1, "32K"), (1, "64K"), (3, "36M"), (2, "512K"))
    assert CPU.cache_levels_bytes() == (512 * 2**10, 36 * MIB)


def test_where_no_cache_can_be_read_the_last_is_taken_for_64_mib(caches):
    assert CPU.cache_levels_bytes() == (64 * MIB,)
    caches((1, "32K"))
    assert CPU.cache_levels_bytes() == (64 * MIB,)


def test_the_cpu_clock_runs_every_call_and_returns_seconds(monkeypatch):
    readings = iter([5_000_000_000, 7_500_000_000])
    monkeypatch.setattr(module, "wall_ns", lambda: next(readings))
    calls = []
    assert CPU.time_calls(lambda: calls.append(1), 3) == 2.5
    assert len(calls) == 3
