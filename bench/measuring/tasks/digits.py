"""Handwritten digits: real images, small enough that every pixel is a token."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.measuring.tasks.base import (
    Batch,
    Recipe,
    Split,
    Task,
    generator,
    held_out,
    in_turn,
    register_task,
)
from bench.measuring.tasks.generated import Part

CSV = Path(__file__).with_name("data") / "digits.csv"
NUM_CLASSES = 10
NUM_PIXELS = 64
MAX_INTENSITY = 16
NUM_TEST_EXAMPLES = 540
"""Thirty per cent of the 1,797 images, rounded up."""
NUM_TRAINING_EXAMPLES = 1100
"""The others, without an eighth that is held out for validation."""

NOISE_UNIT = 1 / 256
NOISE_UNITS = 44
"""Noise is a whole number of units from -44 to 44, each as likely: a spread of 0.1 of the range
from white to black. Such numbers have no rounding, so they are the same on every machine."""


@register_task("digits")
class Digits(Task):
    """Name the digit in an 8x8 grey image whose 64 pixels are the tokens, row by row.

    The data is described in ``data/README.md``. The answer is read from the mean over tokens, so
    much of it can be had without any mixing: `none` and `uniform` belong beside every result.

    Raises:
        ValueError: batches of more images than there are to train on.
    """

    default_recipe = Recipe(position_std=0.3, num_steps=300, batch_size=32, learning_rate=2e-3)
    guess = "the most frequent digit of the training images"
    seq_len = NUM_PIXELS
    num_classes = NUM_CLASSES

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.recipe.batch_size > NUM_TRAINING_EXAMPLES:
            raise ValueError(
                f"batch_size is {self.recipe.batch_size}, and digits has {NUM_TRAINING_EXAMPLES:,} "
                f"images to train on. Set batch_size={NUM_TRAINING_EXAMPLES} or less."
            )

    def batches(self, split: Split, seed: int) -> Iterator[Batch]:
        """Training images in a new order each time round; the fixed test images, once."""
        if split is Split.TEST:
            yield from digit_images(Split.TEST).chunks(self.recipe.batch_size)
            return
        images = training_images()
        stream = generator(seed, "digits train")
        for chosen in in_turn(len(images.targets), self.recipe.batch_size, stream):
            yield images.select(chosen)

    def validation(self) -> Iterator[Batch]:
        """Training images that were held out."""
        yield from validation_images().chunks(self.recipe.batch_size)

    def embedding(self, embed_dim: int) -> nn.Module:
        """A pixel's intensity, projected."""
        projection = nn.Linear(1, embed_dim)
        # At first a pixel's intensity and its place weigh the same.
        nn.init.normal_(projection.weight, std=self.recipe.position_std)
        nn.init.zeros_(projection.bias)
        return projection

    def chance(self) -> float:
        """The share of the most frequent training digit among the test images."""
        most_frequent = digit_images(Split.TRAIN).targets.bincount().argmax()
        return (digit_images(Split.TEST).targets == most_frequent).float().mean().item()


@cache
def training_images() -> Batch:
    """The training images without those that are held out for validation."""
    images = digit_images(Split.TRAIN)
    return images.select(~held_out(len(images.targets)))


@cache
def validation_images() -> Batch:
    """The training images that are held out."""
    images = digit_images(Split.TRAIN)
    return images.select(held_out(len(images.targets)))


@cache
def digit_images(split: Split) -> Batch:
    """The images of a split, (B, 64, 1) from -1 to 1, and the digits that they show.

    Those of the training split are trained on, or held out for validation.
    """
    rows = [[int(n) for n in line.split(",")] for line in CSV.read_text().splitlines()]
    table = torch.tensor(rows)
    is_test = _is_test(table[:, NUM_PIXELS])
    table = table[is_test if split is Split.TEST else ~is_test]
    pixels = table[:, :NUM_PIXELS, None] / MAX_INTENSITY  # (B, N, 1), 0 to 1
    return Batch(inputs=2 * pixels - 1, targets=table[:, NUM_PIXELS])


def _is_test(labels: Tensor) -> Tensor:
    """Which images to test on: of every digit its share, evenly spread over the file.

    No random number is drawn, so no version of a library can move the split.
    """
    counts = labels.bincount(minlength=NUM_CLASSES)
    exact = counts * NUM_TEST_EXAMPLES / len(labels)
    quota = exact.floor().long()
    left = NUM_TEST_EXAMPLES - int(quota.sum())
    quota[(exact - quota).argsort(descending=True, stable=True)[:left]] += 1  # largest remainders
    is_test = torch.zeros(len(labels), dtype=torch.bool)
    for digit in range(NUM_CLASSES):
        own = (labels == digit).nonzero().squeeze(1)
        spread = (torch.arange(int(quota[digit])) * 2 + 1) * len(own) // (2 * quota[digit])
        is_test[own[spread]] = True
    return is_test


@cache
def images_by_class(part: Part) -> tuple[Tensor, Tensor]:
    """(10, most, 64) images of a part, from 0 to 1, by class, and how many each class has."""
    if part == "test":
        images = digit_images(Split.TEST)
    else:
        images = training_images() if part == "train" else validation_images()
    sizes = images.targets.bincount(minlength=NUM_CLASSES)
    table = torch.zeros(NUM_CLASSES, int(sizes.max()), NUM_PIXELS)
    grey = ((images.inputs[..., 0] + 1) * MAX_INTENSITY / 2).round() / MAX_INTENSITY
    for digit in range(NUM_CLASSES):
        table[digit, : sizes[digit]] = grey[images.targets == digit]
    return table, sizes


def noise(size: tuple[int, ...], stream: torch.Generator) -> Tensor:
    """Noise to add to images from 0 to 1, see `NOISE_UNITS`."""
    return torch.randint(-NOISE_UNITS, NOISE_UNITS + 1, size, generator=stream) * NOISE_UNIT
