"""Canvases: where a digit lies is known, two digits keep apart, and both are asked for."""

import pytest
import torch

from bench.measuring.tasks.base import Split, build_task
from bench.measuring.tasks.digits import digit_images


def digit_under(tokens, mask):
    """The 64 pixels of the four patches that a mask covers, in their order."""
    square = tokens[mask].view(2, 2, 4, 4)
    return square.transpose(1, 2).reshape(64)


@pytest.mark.parametrize("num_digits", [1, 2])
def test_under_each_mask_lies_an_unseen_image_of_its_class(num_digits):
    task = build_task("canvas", {"num_digits": num_digits, "num_test_examples": 50})
    canvases, known = task.test(50), digit_images(Split.TEST)
    assert canvases.masks.shape == (50, num_digits, 37)
    assert (canvases.masks.sum(dim=-1) == 4).all()
    assert (canvases.masks.sum(dim=1) <= 1).all()  # they do not overlap
    assert torch.equal(task.objects().long(), canvases.masks.sum(dim=1))
    for tokens, classes, masks in zip(
        canvases.batch.inputs, canvases.classes, canvases.masks, strict=True
    ):
        assert len(set(classes.tolist())) == num_digits
        for digit, mask in zip(classes, masks, strict=True):
            seen = digit_under(tokens, mask)
            nearest = (known.inputs[..., 0] - seen).square().sum(dim=1).argmin()
            assert known.targets[nearest] == digit


def test_the_class_token_is_blank_and_answers_are_read_there():
    batch = build_task("canvas", {"num_digits": 2}).test(3).batch
    assert not batch.inputs[:, 0].any() and not batch.positions.any()
    assert batch.positions.shape == batch.targets.shape == (3, 2)
    plain = build_task("canvas", {"class_token": False}).test(3).batch
    assert plain.inputs.shape == (3, 36, 16) and plain.positions is None


def test_a_guess_of_both_classes_in_either_order_is_right():
    task = build_task("canvas", {"num_digits": 2})
    batch = task.test(1).batch
    logits = torch.zeros(1, 2, 10)
    logits[..., batch.targets[0, 0]], logits[..., batch.targets[0, 1]] = 1, 2
    assert task.score(logits, batch) == 1
    logits[..., batch.targets[0, 0]] = -1
    assert task.score(logits, batch) == 0.5
    assert task.chance() == 0.2
