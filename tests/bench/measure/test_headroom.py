import os
import resource
import sys

import pytest
import torch

from bench.measure import headroom
from bench.worker import is_out_of_memory

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="a limit of Linux")
MIB = 2**20


def in_child(work):
    """What `work` returns in a process of its own."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, repr(work()).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(write)
    with os.fdopen(read) as pipe:
        return pipe.read()


def allocates(num_bytes):
    try:
        torch.empty(num_bytes, dtype=torch.uint8)
    except RuntimeError as error:
        return f"out_of_memory={is_out_of_memory(error)}"
    return "allocated"


@linux_only
def test_an_allocation_beyond_what_is_free_fails_and_one_within_does_not(monkeypatch):
    monkeypatch.setattr(headroom, "free_bytes", lambda device: 500 * MIB)

    def work():
        headroom.keep_within_free_memory()
        return [allocates(400 * MIB), allocates(600 * MIB), allocates(400 * MIB)]

    assert in_child(work) == repr(["allocated", "out_of_memory=True", "allocated"])


@linux_only
def test_what_the_process_has_already_is_not_taken_from_it(monkeypatch):
    monkeypatch.setattr(headroom, "free_bytes", lambda device: 100 * MIB)

    def work():
        kept = torch.ones(500 * MIB, dtype=torch.uint8)
        headroom.keep_within_free_memory()
        return allocates(50 * MIB), int(kept[-1])

    assert in_child(work) == repr(("allocated", 1))


@linux_only
def test_a_limit_that_is_there_already_is_not_raised(monkeypatch):
    monkeypatch.setattr(headroom, "free_bytes", lambda device: 2**50)

    def work():
        resource.setrlimit(resource.RLIMIT_DATA, (2**40, 2**40))
        headroom.keep_within_free_memory()
        return resource.getrlimit(resource.RLIMIT_DATA)

    assert in_child(work) == repr((2**40, 2**40))


def test_where_the_process_cannot_be_looked_at_there_is_no_limit(monkeypatch):
    monkeypatch.setattr(headroom, "_private_bytes", lambda: None)
    before = resource.getrlimit(resource.RLIMIT_DATA)
    headroom.keep_within_free_memory()
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_a_containers_limit_counts_and_its_reclaimable_cache_is_free(monkeypatch, tmp_path):
    sizes = {"memory.max": 1000, "memory.current": 900}
    monkeypatch.setattr(headroom, "_read_int", lambda path: sizes[path.rpartition("/")[2]])
    stat = tmp_path / "memory.stat"
    stat.write_text("anon 500\ninactive_file 300\n")
    monkeypatch.setattr(headroom, "Path", lambda path: stat)
    assert headroom.free_bytes("cpu") == 400
    assert headroom.memory_limit_bytes() == 1000


def test_without_a_container_the_machines_memory_counts(monkeypatch):
    monkeypatch.setattr(headroom, "_read_int", lambda path: None)
    assert 0 < headroom.free_bytes("cpu") <= headroom.memory_limit_bytes()
