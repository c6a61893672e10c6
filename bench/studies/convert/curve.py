"""Scores of a conversion, of its control and of its teacher, as stored."""

from __future__ import annotations

from dataclasses import dataclass

CURVES, TEACHERS = "curves.jsonl", "teachers.jsonl"

MIN_LEAD = 0.05
"""Lead of the teacher over the control, as a share of the teacher's lead over chance, below which
there is nothing to recover."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One conversion and its control.

    Attributes:
        key: hash of what was trained; a run whose key is stored is not trained again.
        keep: share of the layers that stay softmax.
        phases: steps of matching, distillation and fine-tuning.
        steps: steps at which both were scored, from 0 on.
        converted, scratch: scores at these steps, of the conversion and of its control.
        teacher, chance: scores of the teacher and of guessing.
        train_s: CPU seconds of both arms, and of the teacher if this run trained it.
        source: what was converted, in words.
        origin: machine, commit and day.
    """

    key: str
    task: str
    attention: str
    keep: float
    seed: int
    phases: tuple[int, int, int]
    steps: tuple[int, ...]
    converted: tuple[float, ...]
    scratch: tuple[float, ...]
    teacher: float
    chance: float
    unit: str
    train_s: float
    source: str
    origin: str

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
class Ablated:
    """A teacher that was trained here: its score, and those without each of its mixers.

    Attributes:
        key: key of its cell.
        without: scores with the output of one mixer set to 0, in the order of the layers.
    """

    key: str
    task: str
    seed: int
    score: float
    without: tuple[float, ...]
