"""A trial of one member, here in this process: what it reports of costs."""

from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import pytest
import torch

from attentions import Geometry, attention_class, build_attention
from bench.measuring import runners
from bench.measuring.device.cpu import Cpu
from bench.measuring.models import oracle
from bench.measuring.oracle import checking
from bench.measuring.worker.trial import trial
from tests.attentions.calls import call_of
from tests.records import kernel_cell

# A pool of threads that torch starts in a trial may spin while it waits for work.
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    """Runs a trial of a causal cell once; what it leaves goes to a folder of the tests'."""
    folder = tmp_path_factory.mktemp("trials")
    with torch.profiler.profile(profile_memory=True):
        torch.ones(1)  # the first use starts a thread, so servers do it before they fork

    @cache
    def run(name, reference=None, **changes):
        shape = {"seq_len": 96, "num_heads": 2, "head_dim": 8, "causal": True}
        cell = kernel_cell(name, **(shape | changes))
        with pytest.MonkeyPatch.context() as patch:
            for module in (checking, runners):
                patch.setattr(module, "workers_folder", lambda: folder)
            patch.setattr(torch, "set_num_threads", lambda _: None)
            request = {"cell": cell.to_dict()}
            if reference is not None:
                request["reference"] = replace(cell, entry=reference, mechanism=reference).to_dict()
            return trial(request, SimpleNamespace(send=lambda **_: None))

    return run


def test_a_member_is_timed_beside_its_reference_before_its_oracle_runs(tried, monkeypatch):
    calls = []

    def check(subject):
        calls.append("oracle")
        return original_check(subject)

    original_check = oracle.check
    monkeypatch.setattr(oracle, "check", check)
    time_calls = Cpu.time_calls

    def timed(self, call, count):
        calls.append("call")
        return time_calls(self, call, count)

    monkeypatch.setattr(Cpu, "time_calls", timed)
    assert tried("gla", reference="softmax", seq_len=48).fresh_speedup > 0
    assert calls[: calls.index("oracle")] == ["call"] * (1 + 2 * 6)


@pytest.mark.parametrize(
    ("name", "reference", "mode"),
    [("gla", None, "forward"), ("softmax", "softmax", "forward"), ("gla", "softmax", "decode")],
)
def test_no_fresh_speedup_without_another_forward_call_as_a_reference(tried, name, reference, mode):
    assert tried(name, reference=reference, mode=mode).fresh_speedup is None


def test_a_reference_that_fails_harms_no_trial(tried, monkeypatch):
    def broken(self, q, k, v):
        raise RuntimeError("broken")

    monkeypatch.setattr(attention_class("linear"), "forward", broken)
    assert tried("gla", reference="linear", seq_len=40).fresh_speedup is None


def test_a_decode_reports_the_flops_of_one_step(tried):
    core = build_attention("softmax", Geometry(num_heads=2, head_dim=8, seq_len=96, causal=True))
    shape = call_of(96, 8, num_heads=2, causal=True)
    step, whole = tried("softmax", mode="decode"), tried("softmax")
    assert step.flops == step.executed_flops == core.decode_flops(shape)
    assert (whole.flops, whole.executed_flops) == (core.flops(shape), core.executed_flops(shape))
    assert 10 * step.flops < whole.flops


def test_a_pass_with_gradients_is_taken_for_three_forward_passes_of_all_tokens(tried):
    forward, both = (tried("linear", mode=m, batch_size=2) for m in ("forward", "forward_backward"))
    assert (both.flops, both.executed_flops) == (3 * forward.flops, 3 * forward.executed_flops)
    assert forward.tokens_per_call == both.tokens_per_call == 2 * 96


def test_what_a_backward_pass_keeps_leaves_out_parameters_which_live_anyway(tried):
    shape = {"seq_len": 2, "num_heads": 4, "head_dim": 64, "scope": "layer"}
    found = tried("softmax", mode="forward_backward", **shape)
    assert 0 < found.saved_for_backward_bytes < 256 * 256 * 4 < found.num_parameters * 4
