"""Tasks whose examples are drawn: as many as are wanted, each split by a rule and from a seed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from bench.measuring.tasks.base import (
    NO_ANSWER,
    Batch,
    Count,
    Size,
    Split,
    Task,
    generator,
    in_turn,
    token_table,
)

TEST_SHARE = 8
"""One in so many of all possible examples is kept for the test set."""
_PRIME = 2**31 - 1
_FACTOR = 48271
_MAX_DRAWS = 1000

Part = Literal["train", "validation", "test"]


@dataclass(kw_only=True, eq=False)
class Fresh(Task):
    """A task whose training examples are new in every batch; a subclass says how, in `make`."""

    num_test_examples: Size = 1024
    """Unseen examples to score on."""

    @abstractmethod
    def make(self, count: int, part: Part, stream: torch.Generator) -> Batch:
        """So many examples, of which none can be in another part."""

    def batches(self, split: Split, seed: int) -> Iterator[Batch]:
        """Fresh examples at every training step; the test set from a seed of its own."""
        size = self.recipe.batch_size
        if split is Split.TEST:
            test = self.make(self.num_test_examples, "test", generator(0, f"{self.name} test"))
            yield from test.chunks(size)
            return
        stream = generator(seed, f"{self.name} train")
        while True:
            yield self.make(size, "train", stream)

    def validation(self) -> Iterator[Batch]:
        """Fresh examples from a seed that no run has."""
        stream = generator(0, f"{self.name} validation")
        while True:
            yield self.make(self.recipe.batch_size, "validation", stream)


@dataclass(kw_only=True, eq=False)
class Generated(Task):
    """A task on tokens that are drawn; a subclass says how, in `draw`.

    Which split an example belongs to follows from its inputs, by a rule that has nothing to do
    with the answers (`is_test`), so no example is in both.

    Raises:
        ValueError: fewer training examples than a batch has.
    """

    vocab_size: int = field(init=False, repr=False)
    num_train_examples: Count = 0
    """Examples drawn once and trained on in turn; 0 draws fresh ones at every step."""
    num_test_examples: Size = 1024
    """Unseen examples to score on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if 0 < self.num_train_examples < self.recipe.batch_size:
            raise ValueError(
                f"num_train_examples is {self.num_train_examples} and batch_size is "
                f"{self.recipe.batch_size}; as many examples as a batch has are needed, or 0 for "
                "fresh ones at every step."
            )

    @abstractmethod
    def draw(self, count: int, split: Split, stream: torch.Generator) -> Batch:
        """So many examples, of which some may belong to the other split."""

    def batches(self, split: Split, seed: int) -> Iterator[Batch]:
        """Training examples from the seed's stream; the test set from a seed of its own."""
        size = self.recipe.batch_size
        if split is Split.TEST:
            stream = generator(0, f"{self.name} test")
            for start in range(0, self.num_test_examples, size):
                yield self.examples(min(size, self.num_test_examples - start), split, stream)
            return
        stream = generator(seed, f"{self.name} train")
        if self.num_train_examples:
            whole = self.examples(self.num_train_examples, split, stream)
            for chosen in in_turn(self.num_train_examples, size, stream):
                yield whole.select(chosen)
        while True:
            yield self.examples(size, split, stream)

    def validation(self) -> Iterator[Batch]:
        """Asked for as in the test, and drawn from among the examples that may be trained on."""
        stream, size = generator(0, f"{self.name} validation"), self.recipe.batch_size
        while True:
            yield of_split(lambda n: self.draw(n, Split.TEST, stream), size, Split.TRAIN)

    def examples(self, count: int, split: Split, stream: torch.Generator) -> Batch:
        """So many examples of a split."""
        return of_split(lambda number: self.draw(number, split, stream), count, split)

    def embedding(self, embed_dim: int) -> nn.Module:
        """One learned vector per token."""
        return token_table(self.vocab_size, embed_dim)


def of_split(draw: Callable[[int], Batch], count: int, split: Split) -> Batch:
    """Draw until `count` examples belong to the split.

    Raises:
        ValueError: it has hardly any, since the task's settings allow of few different examples.
    """
    kept: list[Batch] = []
    missing = count
    for _ in range(_MAX_DRAWS):
        drawn = draw(missing * TEST_SHARE if split is Split.TEST else missing)
        own = drawn.select(is_test(drawn.inputs) == (split is Split.TEST))
        kept.append(own.select(slice(missing)))
        missing -= len(kept[-1].targets)
        if missing == 0:
            return Batch.join(kept)
    raise ValueError(
        f"Hardly any example belongs to the {split} split: the settings allow of too few "
        "different ones. Make them longer, or take more tokens."
    )


def is_test(inputs: Tensor) -> Tensor:
    """(B, N) token ids -> (B,): whether each example belongs to the test set."""
    weights = [pow(_FACTOR, place + 1, _PRIME) for place in range(inputs.shape[1])]
    sums = ((inputs + 1) * torch.tensor(weights)).sum(dim=1)  # below 2^63 up to 2^17 tokens
    return sums % _PRIME % TEST_SHARE == 0


def everywhere(inputs: Tensor) -> Tensor:
    """(B, N): all places, for a task that asks at every token."""
    return torch.arange(inputs.shape[1]).expand_as(inputs)


def next_tokens(tokens: Tensor, is_asked: Tensor | None = None) -> Batch:
    """Sequences (B, N + 1) as inputs (B, N) whose answers are the tokens that come next.

    `is_asked`, (B, N + 1), says which tokens are asked for; None asks for all but the first.
    """
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    if is_asked is not None:
        targets = targets.masked_fill(~is_asked[:, 1:], NO_ANSWER)
    return Batch(inputs=inputs, targets=targets, positions=everywhere(inputs))
