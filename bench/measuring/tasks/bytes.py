"""A language model of bytes, scored by the bits it needs for each byte of unseen text."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bench.core.cli.stored_files import read_regular
from bench.measuring.tasks.base import (
    HELD_OUT,
    Batch,
    Recipe,
    Size,
    Split,
    Task,
    generator,
    register_task,
    token_table,
)
from bench.measuring.tasks.generated import everywhere

TEXT = Path(__file__).with_name("data") / "persuasion.txt"
NUM_BYTES = 256
TEST_SHARE = 10
"""The last one in so many bytes of the text are tested on."""


@register_task("bytes", better="lower")
@dataclass(kw_only=True, eq=False)
class Bytes(Task):
    """Predict each byte of a text from those before it.

    The text is the first volume of Jane Austen's *Persuasion*, described in ``data/README.md``, or
    any file. Its first nine tenths are for training, in windows from random places, but for the
    last eighth of them, which validates; the rest is scored in windows side by side, so a byte has
    up to `context_len` bytes before it to go by, and on average half of that. A text so short says
    how fast a mechanism learns a language's surface, not what it could learn of one: no published
    number is comparable.

    Raises:
        ValueError: a file that is not there, or is too short for a window in its last tenth.
    """

    root: str = ""
    """Path of a file; empty for the text that comes with this package."""
    context_len: Size = 128
    """N, bytes that the model sees."""

    default_recipe = Recipe(num_steps=1000, batch_size=32, learning_rate=3e-3)
    guess = "each byte as often as in the training text"
    unit = "bits per byte"
    answers_are_tokens = True
    causal = True
    num_classes = NUM_BYTES

    def __post_init__(self) -> None:
        super().__post_init__()
        self.path = Path(self.root).expanduser() if self.root else TEXT
        self.seq_len = self.context_len
        if not self.path.is_file():
            what = "a folder" if self.path.is_dir() else "not there"
            raise ValueError(f"root={self.root} is {what}; a file is needed, of any bytes.")
        size = self.path.stat().st_size
        shortest = TEST_SHARE * (self.context_len + 1)
        if size < shortest:
            raise ValueError(
                f"{self.path} has {size:,} bytes; context_len={self.context_len} needs "
                f"{shortest:,} or more, of which a tenth is tested on. Take a longer text or a "
                "shorter context."
            )

    def files(self) -> tuple[Path, ...]:
        """The text."""
        return (self.path,)

    def batches(self, split: Split, seed: int) -> Iterator[Batch]:
        """Windows of the training text; those of the rest, once."""
        text, size = self._text(split), self.recipe.batch_size
        width = self.seq_len + 1
        if split is Split.TEST:
            yield from self._in_order(text)
            return
        text = text[: self._num_trained(text)]
        stream = generator(seed, "bytes train")
        while True:
            yield _windows(
                text, torch.randint(len(text) - width + 1, (size,), generator=stream), width
            )

    def validation(self) -> Iterator[Batch]:
        """Windows of the end of the training text, which is held out."""
        text = self._text(Split.TRAIN)
        yield from self._in_order(text[self._num_trained(text) :])

    def _in_order(self, text: Tensor) -> Iterator[Batch]:
        starts = torch.arange(0, len(text) - self.seq_len, self.seq_len)
        for some in starts.split(self.recipe.batch_size):
            yield _windows(text, some, self.seq_len + 1)

    def _num_trained(self, text: Tensor) -> int:
        """Bytes of the training text before those that are held out, a window at least."""
        return len(text) - max(len(text) // HELD_OUT, self.seq_len + 1)

    def _text(self, split: Split) -> Tensor:
        whole = _read(self.path, self.path.stat().st_mtime_ns)
        middle = len(whole) - len(whole) // TEST_SHARE
        return whole[middle:] if split is Split.TEST else whole[:middle]

    def embedding(self, embed_dim: int) -> nn.Module:
        """One learned vector per byte."""
        return token_table(NUM_BYTES, embed_dim)

    def score(self, logits: Tensor, batch: Batch) -> float:
        """Mean bits per byte."""
        return cross_entropy(logits.flatten(0, -2), batch.targets.flatten()).item() / math.log(2)

    def each_answer(self, logits: Tensor, batch: Batch) -> Tensor:
        """(B, N): bits of each byte."""
        losses = cross_entropy(logits.transpose(1, -1), batch.targets, reduction="none")
        return losses / math.log(2)

    def chance(self) -> float:
        """Bits per byte by frequencies alone, one added to each count."""
        counts = self._text(Split.TRAIN).bincount(minlength=NUM_BYTES).double() + 1
        return -(counts / counts.sum()).log2()[self._text(Split.TEST)].mean().item()

    def plateaus(self) -> dict[str, float]:
        """Scores of models that see one byte back, and of gzip's method on the test text alone."""
        train, test = self._text(Split.TRAIN), self._text(Split.TEST)
        pairs = (train[:-1] * NUM_BYTES + train[1:]).bincount(minlength=NUM_BYTES**2)
        counts = pairs.view(NUM_BYTES, NUM_BYTES).double()
        alone = train.bincount(minlength=NUM_BYTES).double() + 1
        counts = counts + alone / alone.sum()  # a pair that was not seen is as likely as its second
        shares = counts / counts.sum(dim=1, keepdim=True)
        bigram = -shares[test[:-1], test[1:]].log2().mean().item()
        packed = zlib.compress(bytes(test.tolist()), 9)
        return {"the byte before it": bigram, "gzip": 8 * len(packed) / len(test)}


@cache
def _read(path: Path, _changed_ns: int) -> Tensor:
    return torch.frombuffer(bytearray(read_regular(path)), dtype=torch.uint8).long()


def _windows(text: Tensor, starts: Tensor, width: int) -> Batch:
    tokens = text[starts.unsqueeze(1) + torch.arange(width)]
    inputs = tokens[:, :-1]
    return Batch(inputs=inputs, targets=tokens[:, 1:], positions=everywhere(inputs))
