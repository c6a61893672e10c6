from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

import attentions
from bench.measuring.costs import estimate
from bench.measuring.costs.estimate import (
    claimed_flops,
    flops_of,
    needed_bytes,
    peak_bytes,
    peak_bytes_of,
)
from bench.measuring.device import device_named
from bench.measuring.subject import Subject
from tests.bench.measuring.test_subject import cell

CORES = [
    name
    for name in attentions.attention_names()
    if not (can := attentions.attention_class(name).capabilities).requires and "cpu" in can.devices
]
SMALL = {"batch_size": 3, "seq_len": 500, "num_heads": 2, "head_dim": 32}


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


@pytest.mark.parametrize(
    ("name", "mode", "shape"),
    [
        ("agent", "forward", {}),
        ("mla", "forward_backward", {}),
        ("softmax_explicit", "forward_backward", SMALL | {"key_len": 1500}),
        ("linear", "forward_backward", SMALL | {"padding": 0.25}),
        ("softmax_explicit", "forward_backward", SMALL | {"ragged": 0.5}),
    ],
)
def test_the_estimate_is_near_what_is_measured(name, mode, shape):
    assert_near_what_is_measured(name, mode, **shape)


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


def test_what_meta_tensors_do_not_get_through_has_no_estimate(monkeypatch):
    def forward(self, q, k, v):
        return v if float(q.sum()) > 0 else -v

    monkeypatch.setattr(attentions.attention_class("none"), "forward", forward)
    assert needed_bytes(asked("none", seq_len=77)) is None


def flops(**shape):
    subject = Subject(cell("softmax", **shape))
    return flops_of(subject.module, subject.cell.kernel)


def test_flops_are_those_of_visible_pairs_and_what_is_executed_is_all():
    def both(**shape):
        return flops(batch_size=3, **shape)

    pair = 2 * 2 * (8 + 8)  # of two heads
    assert both() == (pair * 3 * 12 * 12,) * 2
    assert both(padding=0.25) == (pair * 3 * 12 * 9, pair * 3 * 12 * 12)
    assert both(key_len=20)[0] == pair * 3 * 12 * 20
    assert both(ragged=0.5) == (pair * (12 * 12 + 9 * 9 + 6 * 6), pair * 3 * 12 * 12)
    assert both(ragged=0.5, causal=True)[0] == pair * (12 * 13 + 9 * 10 + 6 * 7) // 2


def test_flops_of_a_decoded_token_are_those_of_one_query_and_not_of_a_whole_pass():
    pair = 2 * 2 * (8 + 8)
    assert flops(mode="decode", causal=True) == (pair * 12,) * 2
    assert flops(mode="prefill", causal=True)[0] == pair * 12 * 13 // 2


def claimed(value):
    return claimed_flops(SimpleNamespace(decode_flops=lambda shape: value), "decode_flops", None)


@pytest.mark.parametrize("value", [0, 7, 7.0, np.int64(7), 2**70])
def test_a_count_is_taken_as_a_whole_number(value):
    assert claimed(value) == value and type(claimed(value)) is int


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, -1, "few", 1.5, 10**400, 1j])
def test_what_is_no_count_is_refused_with_the_name_of_the_formula(value):
    with pytest.raises(ValueError, match=r"decode_flops\(\) gives .*; FLOPs are a whole number"):
        claimed(value)


def layers(device):
    with torch.device(device):
        return nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 8)), torch.randn(4, 8)


@pytest.mark.parametrize("has_backward", [False, True])
def test_meta_tensors_show_the_peak_that_the_allocator_sees(has_backward):
    def calling(device):
        module, x = layers(device)

        def call():
            with torch.set_grad_enabled(has_backward):
                out = module(x)
                if has_backward:
                    weights = list(module.parameters())
                    return torch.autograd.grad(out, weights, torch.empty_like(out))
                return out

        return call

    seen = device_named("cpu").profile(calling("cpu")).peak_bytes
    assert seen > 0
    # The allocator rounds small tensors up to its alignment.
    assert peak_bytes(calling("meta")) == pytest.approx(seen, rel=0.1)


def test_what_was_let_go_of_is_not_counted_again():
    x = torch.empty(1000, device="meta")

    def call():
        y = x
        for _ in range(5):
            y = y + 1

    assert peak_bytes(call) == 2 * x.nbytes


@pytest.mark.parametrize("mask", [None, torch.zeros(64, 64), torch.ones(64, 64) > 0])
def test_fused_attention_is_one_operator_and_not_all_pairs(mask):
    shape = (1, 8, 64, 8)
    q, k, v = (torch.empty(shape, device="meta", requires_grad=True) for _ in range(3))
    mask = None if mask is None else mask.to("meta")

    def call():
        out = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return torch.autograd.grad(out, [q, k, v], torch.empty_like(out))

    pairs = 8 * 64 * 64 * 4
    assert peak_bytes(call) < pairs
    with sdpa_kernel([SDPBackend.MATH]):
        assert peak_bytes(call) > 2 * pairs
