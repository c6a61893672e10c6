"""How a training run ends: at its ceiling, at its plateau, or because its steps are spent."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from bench.core.facts import NOTHING_LEFT, level_of
from bench.core.record import TRAINING_VERSION

NUM_LOOKS = 20
"""Times in a whole run that the model is scored on validation examples, evenly spaced."""

SETTLED = 0.25
"""The part of all steps at the end of a whole run in which one that has settled rises no more."""

LEAST_RISE = 0.01
"""Smallest rise that counts: one point of right answers; a hundredth of a bit."""

AT_LEVEL = 0.02
"""In training version 1, the distance from a level within which a run goes on."""

CEILING = 0.999
"""A share of right answers from which there is nothing left to learn."""


@dataclass(frozen=True)
class Curve:
    """Validation scores in the course of training.

    Attributes:
        steps: after which the model was scored.
        ceiling: a share of right answers at which it ends.
        patience: part of all steps within which the score must improve, or it has settled.
        fallen_at: the step before which no plateau ends it, since its learning rate is high.
        levels: scores, by words, at which a run is stuck and goes on to its last step.
        error: half of the 95 % interval of the last score over the validation examples.
    """

    num_steps: int
    better: str
    steps: tuple[int, ...] = ()
    scores: tuple[float, ...] = ()
    ceiling: float = CEILING
    patience: float = 0.25
    fallen_at: int = 0
    levels: Mapping[str, float] = field(default_factory=dict)
    error: float = 0.0

    @property
    def every(self) -> int:
        """Steps from one look to the next."""
        return math.ceil(self.num_steps / NUM_LOOKS)

    def is_due(self, step: int) -> bool:
        """Whether the model is scored after this step; always after the last one."""
        return step % self.every == 0 or step == self.num_steps

    def after(self, step: int, score: float, error: float = 0.0) -> Curve:
        """With one more look."""
        return replace(self, steps=(*self.steps, step), scores=(*self.scores, score), error=error)

    def through(self, steps: Sequence[int], scores: Sequence[float], error: float = 0.0) -> Curve:
        """As it stood after these looks."""
        return replace(self, steps=tuple(steps), scores=tuple(scores), error=error)

    def ended(self) -> str | None:
        """Why the run is over: ``ceiling``, ``plateau`` or ``maximum``; None if it goes on.

        A plateau is a best score that has not improved by `LEAST_RISE` within `patience` of all
        steps; there is none before a look lies that far back, none before the learning rate has
        fallen, and none at a level where runs get stuck, since they may leave it. At the last step
        a run with more patience has settled if it has not improved in the last `SETTLED` of all
        steps. ``maximum`` is the end of a run that improved until its last steps, or was stuck
        there: what it would have come to is not known.
        """
        if not self.steps:
            return None
        if self.better == "higher" and self.scores[-1] >= self.ceiling:
            return "ceiling"
        now = self.steps[-1]
        if may_leave(self.scores[-1], self.levels, self.error):
            return "maximum" if now >= self.num_steps else None
        if now < self.fallen_at:
            return None
        window = min(self.patience, SETTLED) if now >= self.num_steps else self.patience
        before = [
            score
            for step, score in zip(self.steps, self.scores, strict=True)
            if step <= now - window * self.num_steps
        ]
        if before and self._rise(self._best(before), self._best(self.scores)) < LEAST_RISE:
            return "plateau"
        return "maximum" if now >= self.num_steps else None

    def steps_to(self, level: float) -> int | None:
        """The first look at which the score was this good; None if it never was."""
        reached = (
            step
            for step, score in zip(self.steps, self.scores, strict=True)
            if self._rise(level, score) >= 0
        )
        return next(reached, None)

    def _best(self, scores: Sequence[float]) -> float:
        return max(scores) if self.better == "higher" else min(scores)

    def _rise(self, before: float, after: float) -> float:
        return after - before if self.better == "higher" else before - after


def may_leave(score: float, levels: Mapping[str, float], error: float) -> bool:
    """Whether a score lies at a level that a run may leave later, so that it goes on."""
    if TRAINING_VERSION > 1:  # then a run goes on that pages call stuck
        return bool(level_of(score, levels, error))
    near = (abs(score - level) for level in levels.values() if level < NOTHING_LEFT)
    return any(away <= max(AT_LEVEL, error) for away in near)
