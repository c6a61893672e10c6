"""Fashion-MNIST, or any other folder in the layout of MNIST."""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from bench.core.cli.stored_files import read_regular
from bench.measuring.tasks.base import Recipe, Size, Split, register_task
from bench.measuring.tasks.images import Images, ImageTask

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts it."""
PREFIXES = {Split.TRAIN: "train", Split.TEST: "t10k"}
_UNSIGNED_BYTES = 8
_PIECE = 1 << 20


@register_task("fashion_mnist")
@dataclass(kw_only=True, eq=False)
class FashionMnist(ImageTask):
    """Name the garment in a grey image of 28x28 pixels, 60,000 to train on and 10,000 to test.

    Xiao et al., 2017, arXiv:1708.07747. Patches of 4x4 make 49 tokens; ``patch_size=1`` makes a
    sequence of 784 pixels. Most is told by a bag of patches: mechanisms differ by a few points.

    Raises:
        ValueError: a folder that is not there, or patches that do not fill the image.
    """

    root: str = ""
    """Path of a folder that holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, and the
    same with ``t10k``, each with or without ``.gz``; empty for the folder of Debian's package
    dataset-fashion-mnist."""
    image_size: Size = 28
    """Rows and columns."""
    num_classes: Size = 10
    """Classes."""

    num_channels = 1
    default_recipe = Recipe(
        position_std=0.3, conv_width=1, num_steps=938, batch_size=64, learning_rate=2e-3
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.folder: Path = self.folder or DEBIAN

    def why_absent(self) -> str | None:
        """How to get the images, if the folder of the package is not there."""
        if self.folder.is_dir():
            return None
        return (
            f"{self.folder} is not there. Install Debian's package, `apt install "
            "dataset-fashion-mnist`, or name a folder in MNIST's layout by root=."
        )

    def files(self) -> tuple[Path, ...]:
        """Images and labels of both splits, as far as they are there."""
        if not self.folder.is_dir():
            return ()
        return tuple(path for split in Split for path in self._paths(split))

    def _paths(self, split: Split) -> tuple[Path, Path]:
        prefix = PREFIXES[split]
        return (
            _find(self.folder, f"{prefix}-images-idx3-ubyte"),
            _find(self.folder, f"{prefix}-labels-idx1-ubyte"),
        )

    def read(self, split: Split) -> Images:
        """See `ImageTask`."""
        images, labels = (_read(path, path.stat().st_mtime_ns) for path in self._paths(split))
        if images.dim() != 3 or labels.dim() != 1 or len(images) != len(labels):
            raise ValueError(
                f"{self.folder} has {split} images of the shape {tuple(images.shape)} and labels "
                f"of {tuple(labels.shape)}; (B, rows, columns) and (B,) are expected."
            )
        return Images(pixels=images.unsqueeze(-1), labels=labels.long())


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    there = ", ".join(sorted(path.name for path in folder.iterdir())[:6]) or "nothing"
    raise ValueError(
        f"{folder} has neither {name} nor {name}.gz; it has: {there}. The layout of MNIST is "
        "expected: train-images-idx3-ubyte, train-labels-idx1-ubyte, and both with t10k."
    )


@cache
def _read(path: Path, _changed_ns: int) -> Tensor:
    """A file of the IDX format, unsigned bytes of any shape.

    Raises:
        ValueError: it is not; the message says at which byte, counted from 0 and after unpacking.
    """
    content = _unpacked(path) if path.suffix == ".gz" else read_regular(path)
    if len(content) < 4:
        raise ValueError(f"{path} ends at byte {len(content)}; a head of 4 bytes is expected.")
    for place, expected in enumerate((0, 0, _UNSIGNED_BYTES)):
        if content[place] != expected:
            raise ValueError(
                f"{path} has {content[place]} at byte {place}; {expected} is expected there in a "
                "file of the IDX format with unsigned bytes."
            )
    head = 4 + 4 * content[3]
    sizes = [int.from_bytes(content[i : i + 4], "big") for i in range(4, head, 4)]
    expected_size = head + math.prod(sizes)
    if len(content) != expected_size or not math.prod(sizes):
        shape = " x ".join(map(str, sizes))
        raise ValueError(
            f"{path} ends at byte {len(content):,}; its head promises {shape}, which ends at "
            f"byte {expected_size:,}, and more than nothing. Copy or download it again."
        )
    return torch.frombuffer(bytearray(content[head:]), dtype=torch.uint8).view(*sizes)


def _unpacked(path: Path) -> bytes:
    content = bytearray()
    try:
        with gzip.open(path) as file:
            # As far as it goes, so that the byte is known.
            while piece := file.read1(_PIECE):
                content += piece
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(
            f"{path} cannot be unpacked beyond byte {len(content):,} of its content: {error}. "
            "Copy or download it again."
        ) from error
    return bytes(content)
