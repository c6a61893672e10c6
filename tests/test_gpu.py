"""Tests that need a CUDA device; the code paths themselves are tested with fakes elsewhere."""

import pytest
import torch

from bench.measuring.device import device_named
from tests.test_walk import attnbench, records

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CARD = device_named("cuda")
CUDA = CARD.place


def test_a_sweep_on_cuda_ends_with_ok_records(tmp_path):
    attnbench(
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
    found = records(tmp_path / "x")
    assert len(found) == 3 * 3 * 2 * 2 + 3
    assert {r["status"] for r in found} == {"ok"}
    assert found[0]["environment"]["devices"]["cuda:0"]


def test_the_clock_waits_for_queued_work():
    x = torch.randn(4096, 4096, device=CUDA)
    one = CARD.time_calls(lambda: x @ x, 1)
    many = CARD.time_calls(lambda: x @ x, 20)
    assert many > 5 * one > 0


def test_the_peak_is_above_the_inputs_and_the_same_each_time():
    x = torch.randn(1024, 1024, device=CUDA)
    peaks = [CARD.profile(lambda: (x + 1).sum()).peak_bytes for _ in range(3)]
    assert peaks[0] == peaks[1] == peaks[2] >= x.numel() * 4


def test_the_second_level_cache_is_flushed():
    assert CARD.cache_levels_bytes()[-1] >= 2**20
    CARD.flusher()()


def test_a_card_tells_its_model_its_identity_and_what_a_call_draws():
    assert CARD.title and CARD.identity != CARD.name and CARD.free_bytes() > 2**30
    x = torch.randn(4096, 4096, device=CUDA)
    energy_j = CARD.energy_j(lambda: x @ x)
    assert energy_j is None or 0 < energy_j < 100
    assert CARD.profile(lambda: attend(x[None, None])).sdpa_kernel


def attend(x):
    return torch.nn.functional.scaled_dot_product_attention(x, x, x)
