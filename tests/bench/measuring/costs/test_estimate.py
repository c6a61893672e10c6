from dataclasses import replace

import pytest
import torch

import attentions
from bench.measuring.costs import estimate
from bench.measuring.costs.estimate import expected_s, needed_bytes, peak_bytes_of
from bench.measuring.device import device_named
from bench.measuring.measure.stopping import Stopping
from bench.measuring.subject import Subject
from tests.bench.measuring.test_subject import cell

CORES = [
    name
    for name in attentions.attention_names()
    if not (can := attentions.attention_class(name).capabilities).requires and "cpu" in can.devices
]


def asked(mechanism, **changes):
    can = attentions.attention_class(mechanism).capabilities
    usual = {"num_heads": 4, "head_dim": 64, "seq_len": 1024, "causal": not can.bidirectional}
    usual["scope"] = "core" if "core" in can.scopes else "layer"
    hyperparameters = attentions.hyperparameters(mechanism)
    return replace(cell(mechanism, **usual | changes), hyperparameters=hyperparameters)


def assert_near_what_is_measured(mechanism, mode, **shape):
    one = asked(mechanism, mode=mode, **shape)
    if one.kernel.has_backward and mechanism == "softmax_flex":
        pytest.skip("has no backward pass on a CPU")
    threads = torch.get_num_threads()
    torch.set_num_threads(one.num_threads)  # each has a scratch of its own
    try:
        call = Subject(one).call
        call()
        measured = device_named("cpu").profile(call).peak_bytes
    finally:
        torch.set_num_threads(threads)
    assert measured / 2 <= peak_bytes_of(one) <= 2 * measured


@pytest.mark.parametrize("mode", ["forward", "forward_backward"])
@pytest.mark.parametrize("name", ["softmax", "agent", "mla"])
def test_the_estimate_is_near_what_is_measured(name, mode):
    assert_near_what_is_measured(name, mode)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("softmax_explicit", {"key_len": 1500}),
        ("linear", {"padding": 0.25}),
        ("softmax_explicit", {"ragged": 0.5}),
    ],
)
def test_so_it_is_of_other_numbers_of_keys_and_of_padding(name, shape):
    shape = {"batch_size": 3, "seq_len": 500, "num_heads": 2, "head_dim": 32} | shape
    assert_near_what_is_measured(name, "forward_backward", **shape)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["forward", "forward_backward"])
@pytest.mark.parametrize("name", CORES)
def test_the_estimate_of_every_mechanism_is_near_what_is_measured(name, mode):
    assert_near_what_is_measured(name, mode)


@pytest.mark.parametrize("name", ["softmax_explicit", "sliding_window", "gla"])
def test_what_is_extrapolated_is_what_a_dry_run_of_that_length_gives(name, monkeypatch):
    one = asked(name, seq_len=8192)
    extrapolation = peak_bytes_of(one)
    monkeypatch.setattr(estimate, "_SHORT", 8192)
    assert extrapolation == pytest.approx(peak_bytes_of(one), rel=0.15)


@pytest.mark.parametrize("mode", ["prefill", "decode"])
def test_the_state_is_part_of_what_a_cell_needs(mode):
    def needed(seq_len, name):
        return needed_bytes(asked(name, mode=mode, causal=True, seq_len=seq_len, scope="core"))

    # Keys and values of 500 tokens more, 4 heads of 64 each, in float32; and the inputs.
    kept = 500 * 4 * 64 * 4
    assert needed(1000, "softmax") - needed(500, "softmax") >= (2 + 4) * kept


@pytest.mark.parametrize(
    ("scope", "mode", "tensors"),
    [
        ("core", "forward", 5),  # q, k, v, a cotangent and the output
        ("core", "forward_backward", 5),  # of which the gradient of v is the cotangent itself
        ("layer", "forward", 3),
    ],
)
def test_inputs_and_outputs_are_part_of_what_a_cell_needs(scope, mode, tensors):
    one = asked("none", scope=scope, mode=mode, seq_len=100)
    weights = 4 * sum(p.numel() for p in Subject(one).parameters)
    needed, each = needed_bytes(one), 100 * 4 * 64 * 4
    assert needed >= tensors * each + weights
    assert scope == "layer" or needed == tensors * each


def test_an_optimiser_keeps_two_more_copies_of_the_weights():
    step, backward = (
        needed_bytes(asked("linear", scope="layer", seq_len=8, mode=mode))
        for mode in ("train_step", "forward_backward")
    )
    weights = 4 * sum(p.numel() for p in Subject(asked("linear", scope="layer")).parameters)
    assert step - backward >= 2 * weights


def test_a_cell_that_cannot_fit_is_told_without_taking_memory():
    assert needed_bytes(asked("softmax_explicit", seq_len=400_000)) > 2 * 4 * 4 * 400_000**2
    assert needed_bytes(asked("softmax", seq_len=400_000)) < 2**33


def test_what_meta_tensors_do_not_get_through_has_no_estimate(monkeypatch):
    def forward(self, q, k, v):
        return v if float(q.sum()) > 0 else -v

    monkeypatch.setattr(attentions.attention_class("none"), "forward", forward)
    assert needed_bytes(asked("none", seq_len=77)) is None


def test_work_is_expected_to_take_half_with_twice_the_threads_and_three_times_with_gradients():
    stopping = Stopping(min_rounds=7, budget_s=0.0)

    def expected(mode, num_threads):
        one = replace(cell("softmax", mode=mode, seq_len=4096), num_threads=num_threads)
        return expected_s(one, stopping) - estimate._TRIAL_S

    one = expected("forward", 1)
    assert one > 0
    assert expected("forward", 2) == pytest.approx(one / 2)
    assert expected("forward_backward", 1) == pytest.approx(3 * one)
    eager = cell("softmax", seq_len=4096)
    whole, call = one + estimate._TRIAL_S, one / (5 + 7)  # five calls of a trial, and the rounds
    compiled = replace(eager, workload=replace(eager.kernel, compile="inductor"))
    assert expected_s(compiled, stopping) == pytest.approx(whole + 2 * 10)
    waits = expected_s(eager, Stopping(min_rounds=7, budget_s=100.0))
    assert waits == pytest.approx(whole - 7 * call + 100)
