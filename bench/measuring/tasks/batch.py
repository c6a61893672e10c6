"""Examples of a task with their answers, in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor

NO_ANSWER = -100
"""The target at a token where nothing is asked: neither trained on nor scored."""


class Split(StrEnum):
    """Which examples: those to learn from, or those to be scored on."""

    TRAIN = "train"
    TEST = "test"


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Examples with their answers.

    Attributes:
        inputs: token ids, (B, N) whole numbers, or measured tokens, (B, N, channels).
        targets: the class of each answer: (B, A), or (B,) if there is one for the whole sequence;
            `NO_ANSWER` where nothing is asked.
        positions: (B, A), the tokens at which the answers are read; None reads one answer from
            the mean over all tokens.
    """

    inputs: Tensor
    targets: Tensor
    positions: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The same change to every tensor, such as a selection of examples or another device."""
        positions = None if self.positions is None else change(self.positions)
        return Batch(inputs=change(self.inputs), targets=change(self.targets), positions=positions)

    def chunks(self, size: int) -> Iterator[Batch]:
        """The same examples in order, at most `size` at a time."""
        for start in range(0, len(self.targets), size):
            yield self.select(slice(start, start + size))

    def select(self, examples: Tensor | slice) -> Batch:
        """Some of the examples."""
        return self.map(lambda whole: whole[examples])

    @property
    def num_answers(self) -> int:
        """Number of answers over all examples."""
        return int((self.targets != NO_ANSWER).sum())

    @staticmethod
    def join(parts: Sequence[Batch]) -> Batch:
        """The examples of several batches of one kind, in order."""
        places = [part.positions for part in parts if part.positions is not None]
        return Batch(
            inputs=torch.cat([part.inputs for part in parts]),
            targets=torch.cat([part.targets for part in parts]),
            positions=torch.cat(places) if places else None,
        )


def each_checked(batches: Any, task: str, num_classes: int | None = None) -> Iterator[Batch]:
    """Yield the batches that a task gives, which a plugin may have made of anything.

    Args:
        batches: what its `batches` returned.
        task: its name, for the message.
        num_classes: number of answers that a model can give, for the first batch to be checked.

    Raises:
        ValueError: one of them is no `Batch`, or its targets are no classes at its positions.
    """
    for batch in batches if isinstance(batches, Iterable) else (batches,):
        if not isinstance(batch, Batch):
            kind = type(batch).__name__
            raise ValueError(f"the task {task} gives a {kind} for its batches; each is a Batch")
        if num_classes is not None:
            _refuse_no_classes(batch, task)
            _refuse_other_classes(batch, task, num_classes)
            num_classes = None
        yield batch


def _refuse_no_classes(batch: Batch, task: str) -> None:
    """Refuse targets and positions that are no whole numbers of one shape, an example's in a row.

    Raises:
        ValueError: says what they are, and what is needed.
    """
    targets, positions = batch.targets, batch.positions
    for name, given in (("targets", targets), ("positions", positions)):
        if given is not None and (given.is_floating_point() or given.dtype == torch.bool):
            raise ValueError(
                f"the task {task} has {name} of dtype {given.dtype}; whole numbers are needed, as "
                "torch.long"
            )
    if positions is not None and positions.shape != targets.shape:
        raise ValueError(
            f"the task {task} has targets of shape {tuple(targets.shape)} and positions of shape "
            f"{tuple(positions.shape)}; both are (B, A), a target for each position"
        )
    if len(targets) != len(batch.inputs):
        raise ValueError(
            f"the task {task} has targets of {len(targets)} examples and inputs of "
            f"{len(batch.inputs)}; they are of the same ones"
        )


def _refuse_other_classes(batch: Batch, task: str, num_classes: int) -> None:
    asked = batch.targets[batch.targets != NO_ANSWER]
    if asked.numel() and not 0 <= int(asked.min()) <= int(asked.max()) < num_classes:
        raise ValueError(
            f"the task {task} has targets from {int(asked.min())} to {int(asked.max())}; its "
            f"num_classes is {num_classes}, so they are 0 to {num_classes - 1}"
        )
