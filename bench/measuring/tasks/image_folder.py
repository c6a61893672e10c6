"""A user's own images, one folder a class."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.measuring.tasks.base import Recipe, Size, Split, register_task
from bench.measuring.tasks.images import Images, ImageTask

ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}


@register_task("image_folder")
@dataclass(kw_only=True, eq=False)
class ImageFolder(ImageTask):
    """Name the class of an image from ``root/train/CLASS/FILE`` or ``root/test/CLASS/FILE``.

    Images are scaled to a square, in colour, and all are kept in memory. Classes are the names of
    the folders in ``train``, in the order of the alphabet. Reading needs Pillow.

    Raises:
        ValueError: a folder that is not there or has another layout.
    """

    image_size: Size = 32
    """Rows and columns after scaling."""

    default_recipe = Recipe(
        position_std=0.3, conv_width=1, num_steps=1000, batch_size=64, learning_rate=2e-3
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.classes = _classes(self.folder) if self.folder else ()
        self.num_classes = max(len(self.classes), 1)

    def why_absent(self) -> str | None:
        """Say that no folder is named, or that Pillow is missing."""
        if self.folder is None:
            return (
                "no images: name a folder that holds train/CLASS/FILE and test/CLASS/FILE by root=."
            )
        if importlib.util.find_spec("PIL") is None:
            return "Pillow, which reads images, is not installed: pip install pillow."
        return None

    def files(self) -> tuple[Path, ...]:
        """Every image."""
        return tuple(path for split in Split for path, _ in self._labelled(split))

    def _labelled(self, split: Split) -> tuple[tuple[Path, int], ...]:
        if self.folder is None:
            return ()
        return tuple(
            (path, label)
            for label, name in enumerate(self.classes)
            for path in sorted((self.folder / split / name).glob("*"))
            if path.suffix.lower() in ENDINGS
        )

    def read(self, split: Split) -> Images:
        """See `ImageTask`."""
        labelled = self._labelled(split)
        if not labelled:
            raise ValueError(
                f"{self.folder}/{split} has no image in the folders {', '.join(self.classes)}; "
                f"files that end in {', '.join(sorted(ENDINGS))} are expected there."
            )
        read = [_read(path, self.image_size, path.stat().st_mtime_ns) for path, _ in labelled]
        return Images(
            pixels=torch.stack(read), labels=torch.tensor([label for _, label in labelled])
        )


def _classes(folder: Path) -> tuple[str, ...]:
    found = {}
    for split in Split:
        inside = folder / split
        names = sorted(p.name for p in inside.iterdir() if p.is_dir()) if inside.is_dir() else []
        if not names:
            raise ValueError(
                f"{folder} has no folders in {split}/; the layout train/CLASS/FILE and "
                "test/CLASS/FILE is expected, with a folder for each class."
            )
        found[split] = names
    if strange := sorted(set(found[Split.TEST]) - set(found[Split.TRAIN])):
        raise ValueError(
            f"{folder}/test has classes that train/ has not: {', '.join(strange)}. Both must have "
            "folders of the same names."
        )
    return tuple(found[Split.TRAIN])


@cache
def _read(path: Path, size: int, _changed_ns: int) -> Tensor:
    image: Any = importlib.import_module("PIL.Image")
    try:
        with image.open(path) as file:
            scaled = file.convert("RGB").resize((size, size))
    except Exception as error:  # Pillow raises of many kinds for what is no image
        num_bytes = path.stat().st_size
        raise ValueError(
            f"{path} of {num_bytes:,} bytes cannot be read as an image: {error}. Copy it again, or "
            "take it out of the folder."
        ) from error
    return torch.frombuffer(bytearray(scaled.tobytes()), dtype=torch.uint8).view(size, size, 3)
