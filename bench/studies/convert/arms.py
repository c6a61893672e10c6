"""Arms of conversions, each trained at several rates, of which the best is taken; kept as lines."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.core.clock import cpu_s
from bench.core.grid import MAX_WIDENINGS, Best, Trained, best_of
from bench.core.lines import Lines
from bench.measuring.tasks.base import Task
from bench.measuring.tasks.train import Diverged, score_on_validation
from bench.studies.convert.page import Arm

CONVERTED, SCRATCH = "converted", "from scratch"

Train = Callable[[float], tuple[nn.Module, tuple[float, ...]]]
"""Trains an arm at a rate; returns its model and its scores on the test set."""


class AllDiverged(Exception):
    """No rate gave a score."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """An arm at its best rate.

    Attributes:
        is_at_edge: whether a lower or higher rate than all that were tried may be better.
        train_s: CPU seconds of all rates that were tried.
    """

    rate: float
    scores: tuple[float, ...]
    is_at_edge: bool
    train_s: float


class Arms:
    """The arms of a store, one line for each at each rate; those that it lacks are trained."""

    def __init__(self, path: Path) -> None:
        self._lines: Lines[Arm] = Lines(path, Arm)
        self._known = {arm.key: arm for arm in self._lines.read(missing_ok=True)}

    def best(
        self, key: str, run: str, arm: str, rates: Iterable[float], task: Task, train: Train
    ) -> Chosen:
        """The best of some rates by validation score, widened where it lies at their edge.

        Args:
            key: of the conversion.
            run: the conversion in words.
            arm: `CONVERTED` or `SCRATCH`.
            rates: to begin with.
            task: whose validation examples are scored.
            train: trains this arm.

        Raises:
            AllDiverged: no rate gave a score.
        """
        tried: dict[float, Arm] = {}

        def best(more: Iterable[float]) -> Best:
            tried.update({rate: self._at(key, run, arm, rate, task, train) for rate in more})
            scores = {rate: Trained(score=one.validation) for rate, one in tried.items()}
            return best_of(scores, better=task.better)

        found = best(rates)
        for _ in range(MAX_WIDENINGS):
            found = best([found.beyond]) if found.beyond else found
        if found.rate is None:
            told = ", ".join(f"{rate:g}" for rate in sorted(tried))
            raise AllDiverged(f"training diverged at all rates that were tried: {told}")
        return Chosen(
            rate=found.rate,
            scores=tried[found.rate].scores,
            is_at_edge=found.beyond is not None,
            train_s=sum(one.train_s for one in tried.values()),
        )

    def _at(self, of_run: str, run: str, arm: str, rate: float, task: Task, train: Train) -> Arm:
        key = hashed([of_run, arm, rate])
        if key not in self._known:
            began_s, scores, validation = cpu_s(), tuple[float, ...](), None
            with suppress(Diverged):
                model, scores = train(rate)
                validation = score_on_validation(model, task, torch.device("cpu"))
            self._known[key] = Arm(
                key=key,
                scores=() if validation is None else scores,
                validation=validation,
                train_s=cpu_s() - began_s,
                arm=arm,
                rate=rate,
                run=run,
            )
            self._lines.append(self._known[key])
        return self._known[key]


def hashed(about: list[Any]) -> str:
    """Short hash of what JSON can hold."""
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]
