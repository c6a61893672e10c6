"""The engine's memory: what it holds between tiles, and large pages for what is written once."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from attentions import _engine_memory
from attentions._engine_elu import EluPlusOne
from attentions._engine_kernel import Kernel
from attentions._engine_memory import cushion, in_large_pages, is_never_kept, like_in_memory
from attentions._engine_nala import NormAwareQueries
from attentions._engine_tiles import Job

_LARGE = 32 * 2**20
_OTHERS = ("nala", "polaformer", "performer", "nala_cosine", "cosformer", "flatten")
_FAULTS = """
import resource, sys, torch
import attentions
from attentions import _engine_bidirectional, _engine_memory

libc = _engine_memory._libc()
libc.madvise = lambda *_: 0  # a page of 2 MiB would be one fault
held = []


def cushion(job, x, num_alive):
    held.append((job.heads.stop - job.heads.start) * min(job.tile_len, x.shape[2]) * num_alive * 4)
    return _engine_memory.cushion(job, x, num_alive)


_engine_bidirectional.cushion = cushion
torch.set_num_threads(1)
geometry = attentions.Geometry(num_heads=8, head_dim=64, seq_len=16384)
attention = attentions.build_attention(sys.argv[1], geometry)
with_backward = sys.argv[2] == "backward"
q, k, v = (torch.zeros(1, 8, 16384, 64, requires_grad=with_backward) for _ in range(3))
ones = torch.ones(1, 8, 16384, 64)
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    out = attention(q, k, v)
    if with_backward:
        torch.autograd.grad(out, (q, k, v), ones)
    del out
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults, max(held))
"""


def test_a_cushion_is_a_tile_in_the_dtype_of_the_computation_and_nothing_where_little_is_alive():
    job = Job(row=0, heads=slice(2, 4), tokens=slice(0, 700), tile_len=512)
    block = cushion(job, torch.empty(1, 4, 700, 24, dtype=torch.bfloat16), num_alive=100)
    assert block is not None
    assert block.num_bytes == 2 * 512 * 24 * 4
    assert cushion(job, torch.empty(1, 4, 700, 24), num_alive=0) is None


class _Library:
    """Stands in for the C library."""

    def __init__(self) -> None:
        self.advised: list[tuple[int, int]] = []
        self.blocks: dict[int, int] = {}
        self.most_blocks = 0

    def madvise(self, start: int, length: int, advice: int) -> int:
        self.advised.append((start, length))
        return 0

    def malloc(self, num_bytes: int) -> int:
        address = 1 + max(self.blocks, default=0)
        self.blocks[address] = num_bytes
        self.most_blocks = max(self.most_blocks, len(self.blocks))
        return address

    def free(self, address: int) -> None:
        del self.blocks[address]


def test_of_a_cushion_all_but_the_last_block_is_let_go_and_that_one_with_the_cushion(monkeypatch):
    library = _Library()
    monkeypatch.setattr(_engine_memory, "_libc", lambda: library)
    job = Job(row=0, heads=slice(0, 1), tokens=slice(0, 512), tile_len=512)
    block = cushion(job, torch.empty(1, 4, 700, 24), num_alive=100)
    assert library.most_blocks == 1 + 5  # five times 24 numbers are 100 or more
    assert library.blocks == {6: 512 * 24 * 4}
    del block
    assert library.blocks == {}


def test_without_a_c_library_that_is_known_nothing_is_held(monkeypatch):
    monkeypatch.setattr(_engine_memory, "_libc", lambda: None)
    job = Job(row=0, heads=slice(0, 1), tokens=slice(0, 512), tile_len=512)
    assert cushion(job, torch.empty(1, 4, 700, 24), num_alive=100) is None


def test_of_long_sequences_something_is_held_in_any_case_and_else_what_maps_ask_for():
    few = Kernel(queries=EluPlusOne(), keys=EluPlusOne(), num_features=64)
    many = Kernel(queries=NormAwareQueries(3.0, 0.5), keys=EluPlusOne(), num_features=64)
    asked = {
        (backward, is_long): [
            kernel.num_alive(backward=backward, is_long=is_long) // 64 for kernel in (few, many)
        ]
        for backward in (False, True)
        for is_long in (False, True)
    }
    copies = NormAwareQueries.copies_alive
    assert copies > 0
    assert asked == {
        (False, False): [0, 0],
        (False, True): [5, 5],
        (True, False): [0, copies],
        (True, True): [8, 8],
    }


def test_what_the_c_library_never_keeps_is_as_large_as_its_source_says():
    assert not is_never_kept(torch.empty(_LARGE - 1, dtype=torch.uint8))
    assert is_never_kept(torch.empty(_LARGE // 4))


def test_only_tensors_with_room_for_a_large_page_are_asked_for_in_such(monkeypatch):
    library = _Library()
    monkeypatch.setattr(_engine_memory, "_libc", lambda: library)
    room = 2 * 2 * 2**20
    small, large = torch.empty(room - 1, dtype=torch.uint8), torch.empty(room // 4)
    assert in_large_pages(small) is small
    assert library.advised == []
    assert in_large_pages(large) is large
    ((start, length),) = library.advised
    page_size = os.sysconf("SC_PAGESIZE")
    assert start % page_size == 0
    assert 0 <= start - large.data_ptr() < page_size
    assert start + length == large.data_ptr() + large.nbytes


def test_without_such_a_system_call_a_large_tensor_is_as_it_comes(monkeypatch):
    monkeypatch.setattr(_engine_memory, "_libc", lambda: None)
    large = torch.empty(_LARGE, dtype=torch.uint8)
    assert in_large_pages(large) is large


@pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage/enabled").exists(),
    reason="needs a Linux with transparent huge pages",
)
@pytest.mark.parametrize("tokens_first", [False, True])
def test_the_system_notes_what_an_output_asks_for(tokens_first):
    q = torch.empty(1, 8, 4096, 64)
    q = q.transpose(1, 2).contiguous().transpose(1, 2) if tokens_first else q
    out = like_in_memory(q, 64)
    assert (out.shape, out.stride()) == (q.shape, q.stride())
    assert "hg" in _flags_of(out.data_ptr() + out.nbytes // 2)


def _flags_of(address: int) -> list[str]:
    """VmFlags of the mapping around an address; hg is MADV_HUGEPAGE, see proc(5)."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, *rest = line.split()
        if "-" in first and not first.endswith(":"):
            start, stop = (int(end, 16) for end in first.split("-"))
            inside = start <= address < stop
        elif inside and first == "VmFlags:":
            return rest
    raise AssertionError("no mapping holds this address")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc's allocator")
@pytest.mark.parametrize(
    "name", ["linear", *(pytest.param(n, marks=pytest.mark.slow) for n in _OTHERS)]
)
@pytest.mark.parametrize(("passes", "num_results"), [("forward", 1), ("backward", 4)])
def test_a_long_call_takes_fresh_pages_for_its_results_and_hardly_any_for_its_tiles(
    name, passes, num_results
):
    page_size = os.sysconf("SC_PAGESIZE")
    done = subprocess.run(
        [sys.executable, "-c", _FAULTS, name, passes],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")},
    )
    faults, held = map(int, done.stdout.split())
    # A pass may fetch what it holds once, and there are up to two. With nothing held, tiles fetch
    # from one to eighteen outputs.
    assert faults * page_size < num_results * _LARGE + 2 * held
