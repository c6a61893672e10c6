"""The oracle's own parts: which form it takes, and what it lets pass."""

from dataclasses import replace

import pytest
import torch

import attentions
from attentions import Geometry, build_attention
from bench.measuring.oracle.oracle import (
    ITSELF,
    REFERENCE,
    SOFTMAX,
    TOLERANCES,
    Errors,
    Incorrect,
    can_ask_by_rows,
    check_gradient,
    distance,
    float64_copy,
    refuse_beyond,
    refuse_empty,
    refuse_nothing,
    refuse_subclasses,
    slow_form,
)

LENGTH = 10


def core(name, **changes):
    sizes = {"num_heads": 6, "head_dim": 4, "seq_len": LENGTH, "causal": True}
    return build_attention(name, Geometry(**(sizes | changes))).double()


def qkv(num_kv_heads=6):
    generator = torch.Generator().manual_seed(0)
    heads = (6, num_kv_heads, num_kv_heads)
    return [
        torch.randn(2, count, LENGTH, 4, generator=generator, dtype=torch.float64)
        for count in heads
    ]


@pytest.mark.parametrize("num_kv_heads", [1, 2, 3])
@pytest.mark.parametrize("causal", [False, True])
def test_a_query_head_meets_the_shared_head_of_its_group(num_kv_heads, causal):
    q, k, v = qkv(num_kv_heads)
    module = core("softmax", num_kv_heads=num_kv_heads, causal=causal)
    who, out = slow_form(module, [q, k, v])
    assert who == SOFTMAX
    group = 6 // num_kv_heads
    for head in range(6):
        scores = q[:, head] @ k[:, head // group].transpose(-2, -1) / 4**0.5
        if causal:
            scores = scores + torch.full((LENGTH, LENGTH), -torch.inf).triu(1)
        expected = scores.softmax(dim=-1) @ v[:, head // group]
        torch.testing.assert_close(out[:, head], expected)
    torch.testing.assert_close(module(q, k, v), out)


@pytest.mark.parametrize("oracle", [None, torch.zeros(2, 3)], ids=["none", "zeros"])
def test_a_gradient_of_nothing_has_to_be_nothing(oracle):
    tolerance = TOLERANCES["float32"]
    check_gradient(None, oracle, tolerance, "it")
    check_gradient(torch.full((2, 3), 1e-6), oracle, tolerance, "it")
    for far in (0.01, -0.01):
        with pytest.raises(Incorrect, match=r"it should be zero and reaches 0\.01"):
            check_gradient(torch.full((2, 3), far), oracle, tolerance, "it")
    with pytest.raises(Incorrect, match="it should be zero and reaches nan"):
        check_gradient(torch.full((2, 3), torch.nan), oracle, tolerance, "it")


def test_a_missing_gradient_is_refused_where_there_is_one():
    with pytest.raises(Incorrect, match="it is missing"):
        check_gradient(None, torch.ones(2, 3), TOLERANCES["float32"], "it")


@pytest.mark.parametrize("num_kv_heads", [6, 2])
def test_the_slow_form_takes_gates_and_they_matter(num_kv_heads):
    tensors, module = qkv(num_kv_heads), core("gated_deltanet", num_kv_heads=num_kv_heads)
    gates = {"beta": torch.rand(2, 6, LENGTH).double(), "log_decay": -torch.rand(2, 6, LENGTH)}
    who, out = slow_form(module, tensors, None, gates)
    assert who == REFERENCE
    torch.testing.assert_close(out, module(*tensors, **gates))
    assert not torch.allclose(out, slow_form(module, tensors)[1])
    _, some = slow_form(module, tensors, [3, 7], gates)
    assert torch.equal(some, out[:, :, [3, 7]])


@pytest.mark.parametrize("num_kv_heads", [6, 2])
def test_a_gated_mechanism_without_a_slow_form_is_its_own_oracle(monkeypatch, num_kv_heads):
    cls = attentions.attention_class("gla")
    monkeypatch.setattr(cls, "reference", attentions.Attention.reference)
    tensors, module = qkv(num_kv_heads), core("gla", num_kv_heads=num_kv_heads)
    gates = {"log_decay": -torch.rand(2, 6, LENGTH, 4).double()}
    who, out = slow_form(module, tensors, None, gates)
    assert who == ITSELF and torch.equal(out, module(*tensors, **gates))


def test_with_gates_none_is_softmax_and_none_is_asked_by_rows(monkeypatch):
    assert can_ask_by_rows(core("softmax"))
    monkeypatch.setattr(
        attentions.attention_class("fox"),
        "capabilities",
        attentions.Capabilities(
            causal=True, cross=True, exact=True, gates={"log_decay": attentions.Gate(high=0)}
        ),
    )
    module = core("fox")
    gates = {"log_decay": -torch.rand(2, 6, LENGTH).double()}
    assert slow_form(module, qkv(), None, gates)[0] == REFERENCE
    assert not can_ask_by_rows(module)


@pytest.mark.parametrize(
    ("out", "words"),
    [
        (torch.zeros(4, 3), "output is zero everywhere"),
        (torch.full((4, 3), 0.5), "output is the same value everywhere, 0.5"),
        (torch.full((4, 3), torch.nan), "output holds 12 of 12 values that are NaN or infinite"),
        (
            torch.eye(4, 3) / torch.eye(4, 3).sum(1, keepdim=True),
            "holds 3 of 12 values that are NaN or infinite",
        ),
        (torch.randn(3, 4), r"output has shape \(3, 4\), expected \(4, 3\)"),
        (torch.randn(4, 3).double(), "output has dtype torch.float64, expected torch.float32"),
    ],
    ids=["zeros", "one value", "nan", "some", "shape", "dtype"],
)
def test_an_output_that_says_nothing_is_refused(out, words):
    with pytest.raises(Incorrect, match=words):
        refuse_nothing(out, torch.empty(4, 3))
    refuse_nothing(torch.eye(4, 3), torch.empty(4, 3))
    refuse_nothing(torch.ones(1, 1), torch.empty(1, 1))  # one value is that of all


def test_one_row_in_ten_may_be_zero_and_no_more():
    out = torch.randn(2, 10, 4)
    out[:, 3] = 0
    refuse_empty(out)
    out[0, 4] = 0
    with pytest.raises(Incorrect, match="output is zero in 15% of its rows"):
        refuse_empty(out)


def test_a_tensor_that_may_still_compute_is_refused_wherever_it_lies():
    plain, late = torch.ones(2), torch.ones(2).as_subclass(type("Late", (torch.Tensor,), {}))
    refuse_subclasses(plain, (plain, [torch.nn.Parameter(plain)]), None, 7)
    for values in ((late,), (plain, late), ((plain, [late]),)):
        with pytest.raises(Incorrect, match="it returns a Late, a subclass of Tensor"):
            refuse_subclasses(*values)


def test_errors_are_relative_to_the_largest_value_and_to_the_norm():
    oracle = torch.tensor([3.0, -4.0]).double()
    errors = distance(torch.tensor([3.0, -4.5]), oracle)
    assert (errors.max_error, errors.rms_error) == (0.5 / 4, 0.5 / 5)


@pytest.mark.parametrize("name", ["max_error", "rms_error"])
def test_either_error_alone_is_refused_beyond_its_tolerance(name):
    tolerance, fine = TOLERANCES["float32"], Errors(max_error=0.0, rms_error=0.0)
    most = getattr(tolerance, name)
    refuse_beyond(replace(fine, **{name: most}), tolerance, 1.0, "it")
    refuse_beyond(replace(fine, **{name: 2 * most}), tolerance, 2.0, "it")
    for error in (1.01 * most, float("nan")):
        with pytest.raises(Incorrect, match=f"it differs from the oracle: {name} "):
            refuse_beyond(replace(fine, **{name: error}), tolerance, 1.0, "it")


def test_a_gradient_may_be_off_by_five_times_as_much_as_an_output():
    oracle, tolerance = torch.ones(2, 3).double(), TOLERANCES["float64"]
    check_gradient(oracle * (1 + 4.9 * tolerance.rms_error), oracle, tolerance, "it")
    with pytest.raises(Incorrect, match="it differs from the oracle: rms_error"):
        check_gradient(oracle * (1 + 5.1 * tolerance.rms_error), oracle, tolerance, "it")
    with pytest.raises(Incorrect, match="it holds values that are NaN or infinite"):
        check_gradient(oracle * torch.inf, oracle, tolerance, "it")


def test_a_tensor_that_is_kept_with_its_graph_is_named():
    module = core("linear")
    module.running = torch.ones((), requires_grad=True) * 2
    with pytest.raises(RuntimeError, match=r"it keeps running .*; keep running.detach\(\)"):
        float64_copy(module)
