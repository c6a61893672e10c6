"""Tiles: the sign beside a digit of the asked class, in images that the other split never shows."""

import torch

from bench.tasks.base import Split
from bench.tasks.digits import digit_images
from tests.bench.tasks.small import drawn


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


def test_noise_has_no_rounding():
    (batch,) = drawn("tile_recall", count=1)
    assert torch.equal(batch.inputs * 128, (batch.inputs * 128).round())
