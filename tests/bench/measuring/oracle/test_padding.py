"""Calls with padding are checked against oracles that never saw it."""

from dataclasses import replace

import pytest

from attentions.mechanisms.linear import Linear
from bench.measuring.oracle import expected
from bench.measuring.oracle.checking import Incorrect, check, compare
from bench.measuring.subject import Subject
from bench.measuring.worker.trial import _flops_off
from tests.bench.measuring.test_subject import cell

MASKED = [
    ("softmax", {"padding": 0.25}),
    ("softmax", {"ragged": 0.5, "causal": True}),
    ("linear", {"key_len": 20}),
    ("linear", {"key_len": 20, "padding": 0.25}),
    ("performer", {"ragged": 0.5}),
    ("retnet", {"padding": 0.25, "causal": True}),
]


def subject(mechanism="linear", **changes):
    return Subject(cell(mechanism, **({"batch_size": 3} | changes)))


@pytest.mark.parametrize(("mechanism", "shape"), MASKED)
@pytest.mark.parametrize("mode", ["forward", "forward_backward"])
def test_hidden_keys_are_checked_against_an_oracle_that_never_saw_them(mechanism, shape, mode):
    one = subject(mechanism, mode=mode, **shape)
    found = check(one)
    assert 0 < found.rms_error < 1e-4
    assert found.oracle == ("softmax" if mechanism == "softmax" else "reference")
    compare(one, found.expected)  # as after the rounds


@pytest.mark.parametrize(("mechanism", "shape"), MASKED)
@pytest.mark.parametrize("mode", ["forward", "forward_backward"])
def test_so_they_are_where_an_oracle_is_asked_about_less(monkeypatch, mechanism, shape, mode):
    monkeypatch.setattr(expected, "MAX_PAIRS", {"forward": 2**15, "backward": 2**13})
    if "key_len" in shape:
        shape = shape | {"key_len": 200}
    found = check(subject(mechanism, mode=mode, seq_len=300, **shape))
    assert 0 < found.rms_error < 1e-4 and found.checked_share < 1


def test_a_mask_makes_no_formula_contradict_its_counter():
    """Under one `linear` writes out whole chunks, which its causal form otherwise cuts short."""
    for shape in ({"padding": 0.25}, {"ragged": 0.5}):
        assert _flops_off(subject(causal=True, seq_len=300, **shape)) is None


def test_a_mechanism_that_cannot_do_without_a_token_is_checked_with_the_mask():
    rotated = replace(cell("nala", ragged=0.5, batch_size=3), hyperparameters={"rope": True})
    found = check(Subject(rotated))
    assert 0 < found.rms_error < 1e-4 and found.oracle == "itself"


def test_a_mechanism_may_give_zeros_at_queries_that_are_padding(monkeypatch):
    forward = Linear.forward

    def zeros(self, q, k, v, *, key_mask=None):
        return forward(self, q, k, v, key_mask=key_mask) * key_mask[:, None, :, None]

    monkeypatch.setattr(Linear, "forward", zeros)
    assert check(subject(causal=True, padding=0.25)).oracle == "reference"


@pytest.mark.parametrize("shape", [{"padding": 0.25}, {"ragged": 0.5}])
def test_a_mechanism_that_ignores_its_mask_is_incorrect(monkeypatch, shape):
    forward = Linear.forward

    def blind(self, q, k, v, *, key_mask=None):
        return forward(self, q, k, v)

    monkeypatch.setattr(Linear, "forward", blind)
    with pytest.raises(Incorrect, match="differs from the oracle"):
        check(subject(**shape))
