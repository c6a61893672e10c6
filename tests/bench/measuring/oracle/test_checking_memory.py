"""Memory that a mechanism leaves for later, reads unwritten, or could find answers in."""

import gc
from unittest.mock import Mock

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

import attentions
from bench.measuring.oracle import checking
from bench.measuring.oracle.checking import (
    Incorrect,
    after_rounds,
    check,
    keep,
    refuse_uninitialised,
)
from bench.measuring.subject import Subject
from tests.bench.measuring.oracle.test_checking import cell, run


class Later(torch.Tensor):
    """Might compute when it is first used."""


def test_a_tensor_of_a_class_of_its_own_is_refused_as_output_and_as_gradient(monkeypatch):
    def forward(self, q, k, v):
        return scaled_dot_product_attention(q, k, v).as_subclass(Later)

    with pytest.raises(Incorrect, match="it returns a Later, a subclass of Tensor that may comp"):
        run(monkeypatch, forward, name="softmax")

    class Scaled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient.as_subclass(Later)

    def differentiated(self, q, k, v):
        return scaled_dot_product_attention(Scaled.apply(q), k, v)

    with pytest.raises(Incorrect, match="a plain tensor is needed"):
        run(monkeypatch, differentiated, name="softmax", mode="forward_backward")


def test_a_state_of_a_class_of_its_own_is_refused(monkeypatch):
    cls = attentions.attention_class("linear")
    step = cls.step

    def lazily(self, q, k, v, state):
        out, after = step(self, q, k, v, state)
        return out, after._replace(context=after.context.as_subclass(Later))

    monkeypatch.setattr(cls, "step", lazily)
    with pytest.raises(Incorrect, match="it returns a Later"):
        check(Subject(cell("linear", mode="decode", causal=True)))


@pytest.mark.parametrize("mode", ["forward", "forward_backward"])
def test_what_reads_memory_that_nobody_wrote_is_refused_and_what_writes_it_first_is_not(
    monkeypatch, mode
):
    def reads(self, q, k, v):
        return v + 0 * torch.empty_like(v)

    def writes(self, q, k, v):
        return v + torch.empty_like(v).zero_()

    for forward in (reads, writes):
        monkeypatch.setattr(attentions.attention_class("none"), "forward", forward)
        subject = Subject(cell("none", mode=mode))
        if forward is writes:
            refuse_uninitialised(subject)
            continue
        with pytest.raises(Incorrect, match="reads uninitialised memory: its result is NaN"):
            refuse_uninitialised(subject)
        assert not torch.are_deterministic_algorithms_enabled()
        assert torch.utils.deterministic.fill_uninitialized_memory


@pytest.mark.parametrize("mode", ["forward", "forward_backward"])
def test_no_answer_of_the_oracle_is_in_the_heap_while_the_mechanism_runs(
    monkeypatch, tmp_path, mode
):
    monkeypatch.setattr(checking, "workers_folder", lambda: tmp_path)
    found = []

    def forward(self, q, k, v):
        for x in gc.get_objects():
            if type(x) is torch.Tensor and x.dtype is torch.float64 and x.shape == v.shape:
                found.append(x)
        return scaled_dot_product_attention(q, k, v)

    cls = attentions.attention_class("softmax")
    monkeypatch.setattr(cls, "forward", forward)
    monkeypatch.setattr(
        cls, "reference", Mock(side_effect=AssertionError("softmax is written out"))
    )
    one = cell("softmax", mode=mode, dtype="float32")
    subject = Subject(one)
    keep(one, check(subject).expected)
    after_rounds(one, subject)
    assert found == []
