"""Digits somewhere on a canvas, each one's place known: for explanations and token filters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import MultipleOf
from torch import Tensor, nn

from bench.measuring.tasks.base import (
    Batch,
    Count,
    Interval,
    Recipe,
    distinct,
    generator,
    register_task,
    whole_number,
)
from bench.measuring.tasks.digits import NUM_CLASSES, images_by_class, noise
from bench.measuring.tasks.generated import Fresh, Part
from bench.measuring.tasks.images import patch_projection, patches

PATCH_SIZE = 4
DIGIT_SIZE = 8
_WIDTH = DIGIT_SIZE // PATCH_SIZE  # patches that a digit is wide


@dataclass(frozen=True, kw_only=True)
class Canvases:
    """Examples, and where their digits are.

    Attributes:
        classes: (B, num_digits), of each digit.
        masks: (B, num_digits, N), whether a token is of this digit.
    """

    batch: Batch
    classes: Tensor
    masks: Tensor


@register_task("canvas")
@dataclass(kw_only=True, eq=False)
class Canvas(Fresh):
    """Name the handwritten digit of 8x8 pixels on a larger canvas, in 4x4 patches.

    Digits lie anywhere on the grid of patches, so a digit is four tokens. Beside it lie scraps of
    4x4 pixels of other images, and over all lies noise. With two digits their classes differ and
    both are asked for: the score is the share of shown classes among the two greatest logits, so
    that a model has evidence for two classes that lie in different places, and whoever explains
    the one should not point at the other.

    Much of one digit can be told from a bag of patches that lie on the grid: this task is for
    explaining models and for filtering tokens, not for ranking mechanisms. It is a task of this
    harness; there are no published numbers. Test images are those of `digits`, never trained on.

    Raises:
        ValueError: a canvas that is too small; two digits without a class token.
    """

    canvas_size: Annotated[int, Interval(ge=DIGIT_SIZE), MultipleOf(PATCH_SIZE)] = 24
    """Rows and columns of pixels."""
    num_digits: Annotated[int, Interval(ge=1, le=2)] = 1
    """Digits that are asked for."""
    num_scraps: Count = 3
    """Pieces of other images."""
    class_token: bool = True
    """Whether the answer is read at a blank first token; else from the mean over patches. With it
    tokens fill no square: a mechanism that convolves over a grid sees one line."""

    default_recipe = Recipe(
        position_std=0.3, conv_width=1, num_steps=700, batch_size=64, learning_rate=3e-3
    )
    has_patches = True
    guess = "any of the classes, as many as are asked for"
    num_classes = NUM_CLASSES

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_number("canvas_size", self.canvas_size, at_least=DIGIT_SIZE * self.num_digits)
        if self.num_digits == 2 and not self.class_token:
            raise ValueError(
                "num_digits is 2 and class_token is false; two answers are read at the class token."
            )
        self.seq_len = (self.canvas_size // PATCH_SIZE) ** 2 + self.class_token

    def make(self, count: int, part: Part, stream: torch.Generator) -> Batch:
        """Examples of images of the part."""
        return self._draw(count, part, stream).batch

    def test(self, count: int) -> Canvases:
        """So many test examples with masks; those of `batches` if as many as are scored on."""
        return self._draw(count, "test", generator(0, "canvas test"))

    def objects(self) -> Tensor:
        """Those that any digit covers."""
        return self.test(self.num_test_examples).masks.any(dim=1)

    def _draw(self, count: int, part: Part, stream: torch.Generator) -> Canvases:
        by_class, sizes = images_by_class(part)
        squares = by_class.view(NUM_CLASSES, -1, DIGIT_SIZE, DIGIT_SIZE)
        size = self.canvas_size
        canvas = torch.zeros(count, size, size)
        for _ in range(self.num_scraps):
            kind = torch.randint(NUM_CLASSES, (count,), generator=stream)
            whole = squares[kind, torch.randint(2**31, (count,), generator=stream) % sizes[kind]]
            top, left = torch.randint(DIGIT_SIZE - PATCH_SIZE + 1, (2, count), generator=stream)
            scrap = whole[_square(top, left, PATCH_SIZE)]
            top, left = torch.randint(size - PATCH_SIZE + 1, (2, count), generator=stream)
            canvas[_square(top, left, PATCH_SIZE)] = scrap
        classes = distinct(count, self.num_digits, NUM_CLASSES, stream)
        masks = torch.zeros(count, self.num_digits, size, size)
        for digit, (top, left) in enumerate(self._places(count, stream)):
            kind = classes[:, digit]
            which = torch.randint(2**31, (count,), generator=stream) % sizes[kind]
            canvas[_square(top, left, DIGIT_SIZE)] = squares[kind, which]
            masks[:, digit][_square(top, left, DIGIT_SIZE)] = 1
        tokens = patches((canvas + noise(tuple(canvas.shape), stream)).unsqueeze(-1), PATCH_SIZE)
        covers = patches(masks.flatten(0, 1).unsqueeze(-1), PATCH_SIZE)[..., 0].bool()
        return self._asked(2 * tokens - 1, classes, covers.unflatten(0, masks.shape[:2]))

    def _places(self, count: int, stream: torch.Generator) -> list[tuple[Tensor, Tensor]]:
        """Rows and columns of pixels where digits begin; no two digits overlap."""
        side = self.canvas_size // PATCH_SIZE - _WIDTH + 1
        row, column = torch.arange(side**2) // side, torch.arange(side**2) % side
        far = (row[:, None] - row).abs().maximum((column[:, None] - column).abs()) >= _WIDTH
        # A place from which nothing is far enough, in the middle of a small canvas, is not first.
        first = far.any(dim=1).nonzero()[:, 0] if self.num_digits == 2 else torch.arange(side**2)
        place = first[torch.randint(len(first), (count,), generator=stream)]
        places = [place]
        if self.num_digits == 2:
            lots = torch.randint(2**31, (count, side**2), generator=stream)
            places.append(lots.masked_fill(~far[place], -1).argmax(dim=1))
        return [(row[place] * PATCH_SIZE, column[place] * PATCH_SIZE) for place in places]

    def _asked(self, tokens: Tensor, classes: Tensor, masks: Tensor) -> Canvases:
        if not self.class_token:
            batch = Batch(inputs=tokens, targets=classes[:, 0])
            return Canvases(batch=batch, classes=classes, masks=masks)
        blank = torch.zeros_like(tokens[:, :1])
        batch = Batch(
            inputs=torch.cat([blank, tokens], dim=1),
            targets=classes,
            positions=torch.zeros_like(classes),
        )
        masks = torch.cat([torch.zeros_like(masks[..., :1]), masks], dim=-1)
        return Canvases(batch=batch, classes=classes, masks=masks)

    def embedding(self, embed_dim: int) -> nn.Module:
        """A patch's pixels, projected."""
        return patch_projection(PATCH_SIZE**2, embed_dim)

    def chance(self) -> float:
        """As many classes as are asked for, of all."""
        return self.num_digits / NUM_CLASSES

    def score(self, logits: Tensor, batch: Batch) -> float:
        """The share of shown classes among as many greatest logits."""
        guesses = logits.topk(self.num_digits, dim=-1).indices
        is_right = (guesses == batch.targets.unsqueeze(-1)).any(dim=-1)
        return is_right.float().mean().item()


def _square(top: Tensor, left: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Indices (B, size, size) of a square of each image, from its upper left corner (B,)."""
    along = torch.arange(size)
    rows, columns = top[:, None, None] + along[:, None], left[:, None, None] + along
    return torch.arange(len(top))[:, None, None], rows, columns
