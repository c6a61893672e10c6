"""Base of tasks on image files: images in patches, read once, checked before anything trains."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from bench.measuring.tasks.base import (
    Batch,
    Size,
    Split,
    Task,
    generator,
    held_out,
    in_turn,
)


@dataclass(frozen=True, kw_only=True)
class Images:
    """Images with their classes.

    Attributes:
        pixels: (B, rows, columns, channels), whole numbers from 0 to 255.
    """

    pixels: Tensor
    labels: Tensor


@dataclass(kw_only=True, eq=False)
class ImageTask(Task):
    """Name the class of an image, read from the mean over its patches, row by row.

    Much of an image can be told from a bag of its patches: `none` and `uniform` belong beside every
    result. A subclass says where the images are, in `read` and `why_absent`.

    Attributes:
        num_channels: 1 for grey, 3 for colours.
        folder: what `root` names, if it names one.

    Raises:
        ValueError: a folder that is not there, or patches that do not fill the image.
    """

    root: str = ""
    """Path of the images' folder."""
    patch_size: Size = 4
    """Rows and columns of a token; 1 makes a sequence of pixels."""
    image_size: int = field(init=False, repr=False)

    num_channels: ClassVar[int] = 3
    has_patches = True
    guess = "the most frequent class of the training images"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.folder = folder_of(self.root)
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size is {self.image_size} and patch_size is {self.patch_size}; a divisor "
                "of the image's side is needed."
            )
        self.seq_len = (self.image_size // self.patch_size) ** 2

    @abstractmethod
    def why_absent(self) -> str | None:
        """See `Task.why_no_data`; names missing files and opens none."""

    @abstractmethod
    def read(self, split: Split) -> Images:
        """All images of a split, as of `image_size`; kept, so that it is cheap the second time.

        Raises:
            ValueError: a file is not as it should be; the message names it, and the byte.
        """

    def why_no_data(self) -> str | None:
        """See `Task`; all files are read, once in a process."""
        if reason := self.why_absent():
            return reason
        for split in Split:
            images, shape = self.read(split), (self.image_size, self.image_size, self.num_channels)
            if tuple(images.pixels.shape[1:]) != shape:
                raise ValueError(
                    f"The {split} images have {tuple(images.pixels.shape[1:])} rows, columns and "
                    f"channels; {shape} are expected. Set image_size to the images' side."
                )
            if int(images.labels.max()) >= self.num_classes:
                raise ValueError(
                    f"A {split} label is {int(images.labels.max())}; num_classes is "
                    f"{self.num_classes}, so the greatest may be {self.num_classes - 1}."
                )
        is_held_out = held_out(len(self.read(Split.TRAIN).labels))
        num_images = int((~is_held_out).sum())
        if num_images < self.recipe.batch_size or num_images == len(is_held_out):
            raise ValueError(
                f"There are {len(is_held_out)} training images, of which {num_images} are left to "
                f"train on when some are held out for validation, and batch_size is "
                f"{self.recipe.batch_size}. Give more images, or set batch_size={num_images}."
            )
        return None

    def batches(self, split: Split, seed: int) -> Iterator[Batch]:
        """Training images in a new order each time round; the test images, once."""
        images, size = self.read(split), self.recipe.batch_size
        num_images = len(images.labels)
        if split is Split.TEST:
            for chosen in torch.arange(num_images).split(size):
                yield self._batch(images, chosen)
            return
        trained_on = (~held_out(num_images)).nonzero().squeeze(1)
        for chosen in in_turn(len(trained_on), size, generator(seed, f"{self.name} train")):
            yield self._batch(images, trained_on[chosen])

    def validation(self) -> Iterator[Batch]:
        """Training images that were held out, in a random order, for a file may be sorted."""
        images = self.read(Split.TRAIN)
        chosen = held_out(len(images.labels)).nonzero().squeeze(1)
        order = torch.randperm(len(chosen), generator=generator(0, f"{self.name} validation"))
        for some in chosen[order].split(self.recipe.batch_size):
            yield self._batch(images, some)

    def _batch(self, images: Images, chosen: Tensor) -> Batch:
        pixels = images.pixels[chosen].float() / 127.5 - 1  # -1 to 1
        return Batch(inputs=patches(pixels, self.patch_size), targets=images.labels[chosen])

    def embedding(self, embed_dim: int) -> nn.Module:
        """A patch's pixels, projected."""
        return patch_projection(self.patch_size**2 * self.num_channels, embed_dim)

    def chance(self) -> float:
        """The share of the most frequent training class among the test images."""
        most_frequent = self.read(Split.TRAIN).labels.bincount().argmax()
        return (self.read(Split.TEST).labels == most_frequent).float().mean().item()


def patches(images: Tensor, size: int) -> Tensor:
    """(B, rows, columns, channels) -> (B, N, size * size * channels), row by row."""
    count, rows, columns, channels = images.shape
    cut = images.view(count, rows // size, size, columns // size, size, channels)
    return cut.transpose(2, 3).reshape(count, -1, size * size * channels)


def patch_projection(num_inputs: int, embed_dim: int) -> nn.Linear:
    """A linear map from a token's pixels, -1 to 1, to channels of order 1."""
    projection = nn.Linear(num_inputs, embed_dim)
    nn.init.normal_(projection.weight, std=num_inputs**-0.5)
    nn.init.zeros_(projection.bias)
    return projection


def folder_of(root: str) -> Path | None:
    """The folder that a setting names; None if it is empty.

    Raises:
        ValueError: no such folder is there.
    """
    if not root:
        return None
    folder = Path(root).expanduser()
    if not folder.is_dir():
        what = "a file" if folder.exists() else "not there"
        raise ValueError(f"root={root} is {what}; a folder is needed.")
    return folder
