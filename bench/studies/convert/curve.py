"""Scores of a conversion, of its control, of both at each rate, and of its teacher, as stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Len

from bench.core.cli.limits import Amount, Count, Number, Share, Text

ARMS, CURVES, TEACHERS = "arms.jsonl", "curves.jsonl", "teachers.jsonl"

NOT_SEARCHED, AT_EDGE = "rate not searched", "rate at the edge of the search"
"""Marks of a curve that forbid a verdict."""

MIN_LEAD = 0.05
"""Lead of the teacher over the control, as a share of the teacher's lead over chance, below which
there is nothing to recover."""

_MOST = 10_000
"""Most scores of a curve."""

_Scores = Annotated[tuple[Number, ...], Len(1, _MOST)]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One conversion and its control.

    Attributes:
        key: hash of what was trained; a run whose key is stored is not trained again.
        keep: share of the layers that stay softmax.
        phases: steps of matching, distillation and fine-tuning.
        steps: steps at which both were scored, from 0 on.
        converted, scratch: scores at these steps, of the conversion and of its control.
        rates: their learning rates; None if they are the task's own.
        mark: why the two are not compared; empty if both rates were searched.
        teacher, chance: scores of the teacher and of guessing.
        train_s: CPU seconds of both arms at all their rates, and of the teacher if it was trained.
        source: what was converted, in words.
        origin: machine, commit and day.
    """

    key: Text
    task: Text
    attention: Text
    keep: Share
    seed: Count
    phases: tuple[Count, Count, Count]
    steps: Annotated[tuple[Count, ...], Len(1, _MOST)]
    converted: _Scores
    scratch: _Scores
    teacher: Number
    chance: Number
    unit: Text
    train_s: Amount
    source: Text
    origin: Text
    rates: tuple[Number, Number] | None = None
    mark: Text = NOT_SEARCHED

    def __post_init__(self) -> None:
        if not len(self.steps) == len(self.converted) == len(self.scratch):
            raise ValueError("steps, converted and scratch have different lengths")
        if self.steps[-1] < self.phases[0]:
            raise ValueError("no score follows the first phase")

    def recovered(self, at: int) -> float | None:
        """Recovered share of the teacher's lead over the control, at an index of `steps`.

        None if the lead is below `MIN_LEAD`.
        """
        lead = self.teacher - self.scratch[at]
        whole = self.teacher - self.chance
        if whole == 0 or lead / whole < MIN_LEAD:
            return None
        return (self.converted[at] - self.scratch[at]) / lead


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A conversion or its control, trained at one rate.

    Attributes:
        key: hash of what was trained; an arm whose key is stored is not trained again.
        scores: at the steps of `Curve`; empty if training diverged.
        validation: score on validation examples at the end; None if training diverged.
        train_s: CPU seconds, with those of the teacher if it was trained for this arm.
    """

    key: Text
    scores: Annotated[tuple[Number, ...], Len(0, _MOST)]
    validation: Number | None
    train_s: Amount


@dataclass(frozen=True, kw_only=True)
class Ablated:
    """A teacher that was trained here: its score, and those without each of its mixers.

    Attributes:
        key: key of its cell.
        without: scores with the output of one mixer set to 0, in the order of the layers.
    """

    key: Text
    task: Text
    seed: Count
    score: Number
    without: _Scores
