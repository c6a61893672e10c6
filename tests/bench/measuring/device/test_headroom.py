import resource
import subprocess
import sys
from pathlib import Path

import pytest

from bench.measuring.device import cpu as module
from bench.measuring.device import device_named

CPU = device_named("cpu")
ROOT = Path(__file__).resolve().parents[4]
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="a limit of Linux")

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


def test_where_the_process_cannot_be_looked_at_there_is_no_limit(monkeypatch):
    monkeypatch.setattr(module, "_private_bytes", lambda: None)
    before = resource.getrlimit(resource.RLIMIT_DATA)
    CPU.limit_memory()
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


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


def test_without_a_container_the_machines_memory_counts(monkeypatch):
    monkeypatch.setattr(module, "_read_int", lambda path: None)
    assert 0 < CPU.free_bytes() <= module.memory_limit_bytes()
