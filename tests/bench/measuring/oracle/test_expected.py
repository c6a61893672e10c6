"""An oracle is asked about all of a call, or about as much of it as it can write out."""

import pytest
import torch

from bench.measuring.oracle import expected
from bench.measuring.oracle.expected import ask, extent_of, spread
from bench.measuring.oracle.oracle import slow_form
from bench.measuring.subject import Subject
from tests.records import kernel_cell

__import__("tests.misbehaving")


def subject(name, **changes):
    return Subject(kernel_cell(name, **({"num_heads": 2, "head_dim": 8} | changes)))


@pytest.fixture
def few_pairs(monkeypatch):
    """Oracles that can write out 128 tokens of two heads, 64 with gradients."""
    monkeypatch.setattr(expected, "MAX_PAIRS", {"forward": 2**15, "backward": 2**13})
    monkeypatch.setattr(expected, "FREE_PAIRS", 2**10)


@pytest.mark.parametrize("name", ["softmax", "linear", "none"])
def test_a_call_that_is_short_enough_is_asked_about_as_a_whole(few_pairs, name):
    extent = extent_of(subject(name, seq_len=64, batch_size=4))
    assert extent == expected.Extent(seq_len=64, num_sequences=4, rows=tuple(range(64)))


@pytest.mark.parametrize(
    ("name", "causal", "scope", "seq_len", "rows", "is_prefix"),
    [
        ("softmax", False, "core", 500, 64, False),
        ("softmax", True, "layer", 500, 64, False),
        ("linear", False, "layer", 500, 64, False),
        ("linear", True, "core", 500, 128, True),
        ("none", False, "core", 128, 128, False),
    ],
)
def test_a_longer_one_by_rows_by_its_first_tokens_or_not_at_its_length(
    few_pairs, name, causal, scope, seq_len, rows, is_prefix
):
    extent = extent_of(subject(name, seq_len=500, batch_size=2, causal=causal, scope=scope))
    assert (extent.seq_len, len(extent.rows), extent.is_prefix) == (seq_len, rows, is_prefix)
    if rows == 64:
        assert extent.rows[-1] == 499


@pytest.mark.parametrize(("causal", "backward"), [(True, False), (False, True)])
def test_what_cannot_be_asked_by_rows_is_asked_about_as_many_tokens_as_fit(
    monkeypatch, causal, backward
):
    monkeypatch.setattr(expected, "FREE_PAIRS", 2**10)
    monkeypatch.setattr(expected, "MAX_PAIRS", {"forward": 2 * 201**2, "backward": 2 * 150**2})
    mode = "forward_backward" if backward else "forward"
    name = "linear" if causal else "none"
    extent = extent_of(subject(name, seq_len=500, causal=causal, mode=mode))
    assert len(extent.rows) == (150 if backward else 201)


def test_of_a_batch_the_last_sequences_are_asked_about_as_many_as_fit(few_pairs):
    assert extent_of(subject("none", seq_len=100, batch_size=5)).num_sequences == 1
    assert extent_of(subject("none", seq_len=64, batch_size=5)).num_sequences == 4
    assert extent_of(subject("none", seq_len=16, batch_size=100)).num_sequences == 64
    assert extent_of(subject("softmax", seq_len=200, batch_size=5)).num_sequences == 1


def test_an_oracle_that_loops_over_pairs_is_asked_about_less(monkeypatch):
    monkeypatch.setattr(expected, "FREE_PAIRS", 2**10)
    monkeypatch.setattr(expected, "MAX_S", 0.01)
    quick, slow = (
        extent_of(subject(name, seq_len=256, causal=True)) for name in ("linear", "rwkv6")
    )
    assert len(slow.rows) < len(quick.rows) == 256


@pytest.mark.parametrize("scope", ["core", "layer"])
@pytest.mark.parametrize(
    ("name", "causal"), [("softmax", False), ("softmax", True), ("performer", False)]
)
def test_rows_are_those_of_the_whole(scope, name, causal):
    module = subject(name, scope=scope, causal=causal, seq_len=40).module.double()
    shape = (2, 40, 16) if scope == "layer" else (2, 2, 40, 8)
    tensors = [torch.randn(shape, dtype=torch.float64) for _ in range(1 if scope == "layer" else 3)]
    rows = list(spread(40, 7))
    who, whole = slow_form(module, tensors)
    again, some = slow_form(module, tensors, rows)
    assert who == again == {"softmax": "softmax", "performer": "reference"}[name]
    assert torch.allclose(some, whole[..., rows, :], rtol=1e-12)


def test_a_mechanism_without_a_slow_form_is_its_own_oracle():
    one = subject("noise", seq_len=8)
    assert ask(one, extent_of(one)).oracle == "itself"


@pytest.mark.parametrize("change", [{"ragged": 0.5}, {"ragged": 0.9}], ids=str)
def test_rows_that_are_padding_in_any_sequence_are_not_asked_about(few_pairs, change):
    one = subject("softmax", seq_len=500, batch_size=4, causal=True, **change)
    extent, shortest = extent_of(one), round(500 * (1 - change["ragged"]))
    assert extent.rows[-1] == shortest - 1 and len(extent.rows) == min(64, shortest)
    found = ask(one, extent).pieces[0].values
    assert bool(found.abs().amax(dim=(1, 3)).all()), "each row of each sequence says something"


def test_gradients_of_gates_are_pieces_with_a_channel():
    one = subject("gated_deltanet", seq_len=8, causal=True, mode="forward_backward")
    pieces = ask(one, extent_of(one)).pieces
    names = ["q", "k", "v", "beta", "log_decay"]
    assert [p.what for p in pieces] == ["output", *(f"gradient of input {n}" for n in names)]
    assert [p.values.shape[-1] for p in pieces] == [8, 8, 8, 8, 1, 1]
    assert all(p.values.shape[-2] == len(p.tokens) == 8 for p in pieces)
