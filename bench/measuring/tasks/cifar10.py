"""CIFAR-10, from a folder of the user's or, if asked, from its home."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import tempfile
import urllib.request
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from bench.core.cli.stored_files import read_regular
from bench.measuring.tasks.base import Recipe, Split, register_task
from bench.measuring.tasks.images import Images, ImageTask

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
"""MD5 of the archive, as its page gives it."""
INSIDE = "cifar-10-batches-bin"
NAMES = {
    Split.TRAIN: tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    Split.TEST: ("test_batch.bin",),
}
SIDE, NUM_CHANNELS, NUM_CLASSES = 32, 3, 10
NUM_BYTES = 1 + NUM_CHANNELS * SIDE * SIDE
"""An image: its class, then 1,024 bytes each of red, green and blue, row by row."""


@register_task("cifar10")
@dataclass(kw_only=True, eq=False)
class Cifar10(ImageTask):
    """Name what a colour image of 32x32 pixels shows, one of ten kinds of things.

    50,000 images to train on, 10,000 to test. Krizhevsky, 2009, *Learning Multiple Layers of
    Features from Tiny Images*. The binary version is read, never the one in Python's pickle format,
    which could run code.

    Raises:
        ValueError: a folder that is not there, or patches that do not fill the image.
    """

    root: str = ""
    """Path of a folder that holds ``data_batch_1.bin`` to ``data_batch_5.bin`` and
    ``test_batch.bin``, or a folder of the name cifar-10-batches-bin with them."""
    download: bool = False
    """Whether to fetch the archive (162 MB) into `root` if the files are not there."""

    num_channels, image_size, num_classes = NUM_CHANNELS, SIDE, NUM_CLASSES
    default_recipe = Recipe(
        position_std=0.3, conv_width=1, num_steps=2000, batch_size=64, learning_rate=2e-3
    )

    def why_absent(self) -> str | None:
        """Say that no folder is named; with `download`, the files are fetched first."""
        if self.folder is None:
            return (
                f"There are no images: name a folder with the files of {URL.rpartition('/')[2]} by "
                f"root=; with download=true they are fetched into it from {URL}."
            )
        if self.download and not any(path.exists() for path in self._paths(Split.TEST)):
            _fetch(self.folder)
        return None

    def files(self) -> tuple[Path, ...]:
        """The six files, as far as they are there."""
        paths = [path for split in Split for path in self._paths(split)]
        return tuple(path for path in paths if path.is_file())

    def _paths(self, split: Split) -> tuple[Path, ...]:
        if self.folder is None:
            return ()
        inner = self.folder / INSIDE
        return tuple((inner if inner.is_dir() else self.folder) / name for name in NAMES[split])

    def read(self, split: Split) -> Images:
        """See `ImageTask`."""
        read = torch.cat([_read(path, _changed_ns(path)) for path in self._paths(split)])
        pixels = read[:, 1:].view(-1, NUM_CHANNELS, SIDE, SIDE).permute(0, 2, 3, 1)
        return Images(pixels=pixels, labels=read[:, 0].long())


def _changed_ns(path: Path) -> int:
    if not path.is_file():
        raise ValueError(
            f"{path} is not there. The files of CIFAR-10's binary version are expected: "
            f"data_batch_1.bin to data_batch_5.bin and test_batch.bin, as in {URL}; download=true "
            "fetches them."
        )
    return path.stat().st_mtime_ns


@cache
def _read(path: Path, _changed_ns: int) -> Tensor:
    """(B, 1 + 3072) bytes."""
    content = read_regular(path)
    if not content or len(content) % NUM_BYTES:
        whole = len(content) // NUM_BYTES
        raise ValueError(
            f"{path} ends at byte {len(content):,}, after {whole} images of {NUM_BYTES:,} bytes "
            "each and a part of one or none; it is broken off. Copy or download it again."
        )
    read = torch.frombuffer(bytearray(content), dtype=torch.uint8).view(-1, NUM_BYTES)
    if (wrong := (read[:, 0] >= NUM_CLASSES).nonzero()).numel():
        place = int(wrong[0]) * NUM_BYTES
        raise ValueError(
            f"{path} has the class {content[place]} at byte {place:,}; 0 to 9 are expected. It is "
            "no file of CIFAR-10's binary version, or it is damaged."
        )
    return read


def _fetch(root: Path) -> None:
    """Download and unpack the archive; the files appear at once or not at all."""
    with tempfile.TemporaryDirectory(dir=root) as folder:
        archive = Path(folder) / "archive.tar.gz"
        try:
            with urllib.request.urlopen(URL, timeout=60) as answer, archive.open("wb") as file:
                shutil.copyfileobj(answer, file)
        except OSError as error:
            raise ValueError(f"{URL} cannot be fetched: {error}.") from error
        with archive.open("rb") as file:
            found = hashlib.file_digest(file, "md5").hexdigest()
        if found != MD5:
            raise ValueError(f"{URL} has the MD5 {found}; {MD5} is expected. Nothing was kept.")
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
        os.replace(Path(folder) / INSIDE, root / INSIDE)
