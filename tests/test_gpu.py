"""What only a CUDA device can show; the code paths themselves have tests with fakes elsewhere."""

import pytest
import torch

from bench.measuring.measure.cache import flusher, last_level_cache_bytes
from bench.measuring.measure.device_clock import CudaClock
from bench.measuring.measure.memory import peak_memory_bytes
from tests.test_walk import attnbench, records

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CUDA = torch.device("cuda:0")


def test_a_sweep_on_cuda_ends_with_ok_records(tmp_path):
    done = attnbench(
        "attention=[softmax,linear,nala]",
        "task=[recall]",
        "task.recall.num_steps=5",
        "seq_len=[128]",
        "device=cuda",
        "dtype=[float32,bfloat16,float16]",
        "mode=[forward,forward_backward]",
        "cache=[warm,cold]",
        "out=x",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    found = records(tmp_path / "x")
    assert len(found) == 3 * 3 * 2 * 2 + 3
    assert {r["status"] for r in found} == {"ok"}
    assert found[0]["environment"]["devices"]["cuda:0"]


def test_the_clock_waits_for_queued_work():
    x = torch.randn(4096, 4096, device=CUDA)
    one = CudaClock(CUDA).time_calls(lambda: x @ x, 1)
    many = CudaClock(CUDA).time_calls(lambda: x @ x, 20)
    assert many > 5 * one > 0


def test_the_peak_is_above_the_inputs_and_the_same_each_time():
    x = torch.randn(1024, 1024, device=CUDA)
    peaks = [peak_memory_bytes(lambda: (x + 1).sum(), CUDA) for _ in range(3)]
    assert peaks[0] == peaks[1] == peaks[2] >= x.numel() * 4


def test_the_second_level_cache_is_flushed():
    assert last_level_cache_bytes(CUDA) >= 2**20
    flusher(CUDA)()
