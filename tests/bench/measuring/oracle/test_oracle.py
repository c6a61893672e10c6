"""The oracle's own parts: which form it takes, and what it lets pass."""

import pytest
import torch

import attentions
from attentions import Geometry, build_attention
from bench.measuring.oracle.oracle import (
    ITSELF,
    REFERENCE,
    SOFTMAX,
    TOLERANCES,
    Incorrect,
    can_ask_by_rows,
    check_gradient,
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
        attentions.attention_class("gated_deltanet"),
        "capabilities",
        attentions.Capabilities(
            causal=True,
            cross=True,
            exact=True,
            gates={"beta": attentions.Gate(), "log_decay": attentions.Gate(high=0)},
        ),
    )
    module = core("gated_deltanet")
    gates = {"beta": torch.rand(2, 6, LENGTH).double()}
    assert slow_form(module, qkv(), None, gates)[0] == REFERENCE
    assert not can_ask_by_rows(module)
