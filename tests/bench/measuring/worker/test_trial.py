"""A trial of one member, here in this process: what it reports of costs."""

from types import SimpleNamespace

import pytest
import torch

from attentions import Geometry, build_attention
from bench.measuring import runners
from bench.measuring.oracle import checking
from bench.measuring.worker.trial import trial
from tests.attentions.calls import call_of
from tests.records import kernel_cell


@pytest.fixture
def tried(monkeypatch, tmp_path):
    """Runs a trial of a causal cell; what it leaves goes to a folder of the test's."""
    for module in (checking, runners):
        monkeypatch.setattr(module, "workers_folder", lambda: tmp_path)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)

    def run(name, **changes):
        shape = {"seq_len": 96, "num_heads": 2, "head_dim": 8, "causal": True}
        cell = kernel_cell(name, **(shape | changes))
        return trial({"cell": cell.to_dict()}, SimpleNamespace(send=lambda **_: None))

    return run


@pytest.mark.parametrize("name", ["linear", "softmax"])
def test_a_decode_reports_the_flops_of_one_step(tried, name):
    core = build_attention(name, Geometry(num_heads=2, head_dim=8, seq_len=96, causal=True))
    shape = call_of(96, 8, num_heads=2, causal=True)
    step, whole = tried(name, mode="decode"), tried(name, mode="forward")
    assert step.flops == step.executed_flops == core.decode_flops(shape)
    assert (whole.flops, whole.executed_flops) == (core.flops(shape), core.executed_flops(shape))
    assert 10 * step.flops < whole.flops


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        *(("gla", mode) for mode in ("forward", "forward_backward", "prefill", "decode")),
        ("gated_deltanet", "forward"),
    ],
)
def test_a_core_with_gates_passes_its_trial_and_its_formulas_hold(tried, name, mode):
    found = tried(name, mode=mode)
    assert found.flops_off is None and found.oracle == "reference" and not found.leaks_future
    if mode == "forward":
        assert found.counted_flops == pytest.approx(found.executed_flops, rel=0.01)


def test_a_pass_with_gradients_is_taken_for_three_forward_passes_of_all_tokens(tried):
    forward, both = (tried("linear", mode=m, batch_size=2) for m in ("forward", "forward_backward"))
    assert (both.flops, both.executed_flops) == (3 * forward.flops, 3 * forward.executed_flops)
    assert forward.tokens_per_call == both.tokens_per_call == 2 * 96


def test_gates_lie_outside_of_a_calls_memory_and_their_gradients_within(tried):
    size = 2 * 96 * 8 * 4  # of queries, and of gates per channel
    forward, both = tried("gla"), tried("gla", mode="forward_backward")
    assert both.saved_for_backward_bytes >= 4 * size  # q, k, v and the gate
    assert both.peak_memory_bytes >= 5 * size  # the output and four gradients
    assert forward.peak_memory_bytes < both.peak_memory_bytes
