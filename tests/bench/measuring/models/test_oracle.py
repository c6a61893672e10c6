import pytest
import torch

import attentions
from bench.measuring.models.oracle import after_rounds, check
from bench.measuring.models.subject import subject_of
from bench.measuring.oracle.oracle import Incorrect
from tests.bench.measuring.models.cells import cell, own


@pytest.mark.parametrize("mechanism", ["original", "softmax", "linear", "nala"])
@pytest.mark.parametrize("mode", ["forward", "train_step"])
def test_a_right_model_passes(mechanism, mode):
    subject = subject_of(cell(mechanism, mode=mode))
    assert check(subject).rms_error < 1e-4
    assert subject.module.training == (mode == "train_step")


def test_a_model_that_answers_otherwise_in_float64_fails():
    with pytest.raises(Incorrect, match="output differs from the oracle"):
        check(subject_of(cell(model=own("wrong"))))
    one = cell(model=own("wrong"))
    with pytest.raises(Incorrect, match=r"after the rounds, .* had seen, output differs"):
        after_rounds(one, subject_of(one))


def test_a_model_that_returns_no_tensor_fails_in_words():
    with pytest.raises(Incorrect, match="returns a dict; a tensor of scores is needed"):
        check(subject_of(cell(model=own("no_tensor"))))


def test_a_mechanism_that_is_wrong_is_named_with_its_place_even_behind_a_tiny_branch(monkeypatch):
    core = attentions.attention_class("linear")
    right = core.forward

    def stretched(self, q, k, v):
        return right(self, q, k, v) * (1.002 if q.dtype == torch.float32 else 1.0)

    monkeypatch.setattr(core, "forward", stretched)
    # In this size each branch starts at a millionth, and the scores would show nothing.
    with pytest.raises(Incorrect, match=r"linear at .* differs from the oracle"):
        check(subject_of(cell("linear", model="nalaformer_l", image_size=32)))


@pytest.mark.parametrize(("factor", "words"), [(0.5, "differs"), (torch.nan, "holds values")])
def test_gradients_are_looked_at_where_the_mode_takes_some(monkeypatch, factor, words):
    class Halved(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * (factor if gradient.dtype == torch.float32 else 1.0)

    right = torch.nn.LayerNorm.forward
    monkeypatch.setattr(torch.nn.LayerNorm, "forward", lambda s, x: Halved.apply(right(s, x)))
    check(subject_of(cell()))
    with pytest.raises(Incorrect, match=f"gradient of the parameters {words}"):
        check(subject_of(cell(mode="forward_backward")))


def test_an_oracle_without_a_slow_form_is_the_mechanism_itself(monkeypatch):
    subject = subject_of(cell("linear"))
    found = check(subject)
    assert (found.oracle, found.checked_len, found.checked_share) == ("reference", None, 0.5)
    monkeypatch.setattr("bench.measuring.models.oracle.MAX_PAIRS", 0)
    assert check(subject).oracle == "itself"
    assert check(subject_of(cell())).oracle == ""
