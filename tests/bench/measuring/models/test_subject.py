import pytest
import torch

from bench.measuring.models.subject import ModelSubject, build_model
from tests.bench.measuring.models.cells import cell


@pytest.mark.parametrize("mode", ["forward", "backward", "forward_backward", "train_step"])
def test_every_mode_of_a_model_runs_on_several_input_sets(mode):
    subject = ModelSubject(cell("linear", mode=mode))
    before = [p.detach().clone() for p in subject.parameters]
    subject.rotate()
    assert len(subject.sets) > 1
    outs = [subject.call() for _ in subject.sets]
    moved = any(
        not torch.equal(b, p.detach()) for b, p in zip(before, subject.parameters, strict=True)
    )
    assert moved == (mode == "train_step")
    if mode == "forward":
        assert outs[0].shape == (2, 5) and not torch.equal(outs[0], outs[1])
    if mode in ("backward", "forward_backward"):
        assert any(g is not None and g.any() for g in outs[0])


def test_a_mechanism_takes_the_place_of_a_models_attention_and_original_leaves_it():
    as_it_is, swapped = build_model(cell()), build_model(cell("linear"))
    assert isinstance(as_it_is.attention, torch.nn.MultiheadAttention)
    names = {getattr(part, "name", None) for part in swapped.modules()}
    assert "linear" in names


def test_images_and_what_their_scores_are_weighted_with_are_renewed():
    subject = ModelSubject(cell(mode="backward"))
    subject.call()
    images, cotangent = subject.varying(subject.sets[0])
    before = images.clone(), cotangent.clone()
    subject.renew(1, 1)
    assert not torch.equal(images, before[0]) and not torch.equal(cotangent, before[1])
    expected = subject.gradients(subject.module(images), subject.sets[0])
    for ours, whole in zip(subject.call(), expected, strict=True):
        assert torch.allclose(ours, whole, atol=1e-5)
