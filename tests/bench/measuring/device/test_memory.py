import os
import sys
from dataclasses import replace

import pytest
import torch

from bench.measuring.device import cpu as module
from bench.measuring.device import device_named
from bench.measuring.measure.memory import saved_for_backward_bytes
from bench.measuring.worker.jobs import Interrupt, Jobs
from bench.measuring.worker.results import TRIAL
from tests.bench.core.test_cell import KERNEL

CPU = device_named("cpu")


def peak_bytes(call):
    return CPU.profile(call).peak_bytes


MIB = 2**20


def explicit(q, k, v):
    return (q @ k.transpose(-2, -1)).softmax(dim=-1) @ v


def test_the_peak_is_that_of_a_hand_count_to_the_byte():
    q = torch.randn(1, 2, 512, 64)
    scores, output = 2 * 512 * 512 * 4, q.numel() * 4
    with torch.no_grad():
        peak = peak_bytes(lambda: explicit(q, q, q))
    # Scores and their softmax live together; the scores are freed before the output is made.
    assert peak == 2 * scores
    assert output < scores


def test_two_passes_agree_to_the_byte_whatever_ran_before():
    q = torch.randn(1, 2, 300, 64, requires_grad=True)

    def call():
        return torch.autograd.grad(explicit(q, q, q).sum(), q)

    first = peak_bytes(call)
    torch.randn(4 * MIB).exp()  # a larger case in between must not be inherited
    assert peak_bytes(call) == first


def test_inputs_are_not_counted():
    x = torch.randn(MIB)
    assert peak_bytes(lambda: x.mul_(1.0)) < 1024


def test_scratch_inside_a_fused_operator_is_counted():
    q = torch.randn(1, 2, 1024, 64)
    with torch.no_grad():
        call = lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q)  # noqa: E731
        assert peak_bytes(call) > q.numel() * 4


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


@pytest.mark.skipif(sys.platform != "linux", reason="resident peaks are read from /proc")
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


@pytest.mark.skipif(sys.platform != "linux", reason="resident peaks are read from /proc")
def test_a_larger_call_before_it_hides_nothing_of_a_resident_peak():
    def call():
        return torch.ones(40 * MIB, dtype=torch.uint8)

    torch.ones(200 * MIB, dtype=torch.uint8).sum()
    assert CPU.resident_peak_bytes(call) == pytest.approx(40 * MIB, rel=0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="resident peaks are read from /proc")
def test_scratch_that_a_library_takes_once_and_keeps_is_no_part_of_a_calls_resident_peak():
    kept = []

    def call():
        if not kept:
            kept.append(torch.ones(80 * MIB, dtype=torch.uint8))
        return torch.ones(40 * MIB, dtype=torch.uint8)

    assert CPU.resident_peak_bytes(call) == pytest.approx(40 * MIB, rel=0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="resident sizes are read from /proc")
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


def test_where_the_system_does_not_tell_no_leak_is_known(monkeypatch):
    monkeypatch.setattr(module, "_status_bytes", lambda name: None)
    assert CPU.leaked_bytes(lambda: None, 1) is None
    monkeypatch.setattr(sys, "platform", "darwin")
    assert CPU.leaked_bytes(lambda: os._exit(1), 1) is None


def test_where_the_system_does_not_tell_the_resident_peak_is_none(monkeypatch):
    monkeypatch.setattr(module, "_status_bytes", lambda name: None)
    assert CPU.resident_peak_bytes(lambda: None) is None
    monkeypatch.setattr(sys, "platform", "darwin")
    assert CPU.resident_peak_bytes(lambda: os._exit(1)) is None
