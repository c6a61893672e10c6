"""Tiles: the sign beside a digit of the asked class, in images that the other split never shows."""

from itertools import islice

import pytest
import torch

from bench.measuring.tasks.base import Split, build_task
from bench.measuring.tasks.digits import digit_images, training_images, validation_images
from tests.bench.measuring.tasks.small import SMALL, drawn


def test_the_answer_is_the_sign_of_the_one_tile_of_the_same_class():
    for split in Split:
        known = digit_images(split)
        for batch in drawn("tile_recall", split, count=2):
            for tiles, answer, place in zip(
                batch.inputs, batch.targets, batch.positions, strict=True
            ):
                assert place.tolist() == [0]
                # Noise is too weak to hide which image it lies on, or which sign.
                distance = torch.cdist(tiles[:, :64], known.inputs[..., 0])
                nearest = distance.argmin(dim=1)
                has_sign = (tiles[:, 64:] > 0).any(dim=1)
                assert has_sign.sum() == 4 and not has_sign[0]
                classes, signs = known.targets[nearest], tiles[:, 64:].argmax(dim=1)
                assert len(set(classes[has_sign].tolist())) == 4
                assert len(set(signs[has_sign].tolist())) == 4
                (match,) = (has_sign & (classes == classes[0])).nonzero()
                assert signs[match] == answer
                assert nearest[match] != nearest[0]  # another image of that class


def images_under_the_noise(batches):
    """(n, 64): the known images nearest to all tiles that are not empty."""
    tiles = torch.cat([batch.inputs for batch in batches]).flatten(0, 1)[:, :64]
    known = torch.cat([digit_images(split).inputs[..., 0] for split in Split])
    empty = -torch.ones(1, 64)
    nearest = torch.cdist(tiles, torch.cat([empty, known])).argmin(dim=1)
    return known[nearest[nearest > 0] - 1]


def are_among(images, others):
    """Whether each image is one of the others."""
    return (images[:, None] == others.inputs[None, ..., 0]).all(dim=-1).any(dim=1)


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_each_part_shows_images_of_its_own_split_alone(part):
    task = build_task("tile_recall", SMALL["tile_recall"])
    batches = {
        "train": lambda: task.batches(Split.TRAIN, 0),
        "validation": task.validation,
        "test": lambda: task.batches(Split.TEST, 0),
    }
    own = {
        "train": training_images(),
        "validation": validation_images(),
        "test": digit_images(Split.TEST),
    }
    images = images_under_the_noise(islice(batches[part](), 2))
    assert len(images) == 2 * 8 * 5  # of each example four in pairs and the one that asks
    assert are_among(images, own.pop(part)).all()
    assert not any(are_among(images, others).any() for others in own.values())
