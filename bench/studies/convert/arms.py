"""Train the arms of conversions, each at its own searched rate, and keep them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bench.core.cell import Cell
from bench.core.clock import cpu_s
from bench.core.grid import MAX_WIDENINGS, Best, Trained, best_of
from bench.core.lines import Lines
from bench.measuring.tasks.base import Task, build_task
from bench.measuring.tasks.train import Diverged, score_on_validation
from bench.studies.convert.curve import ARMS, Arm
from bench.studies.convert.models import Pupil, exchanged_in, load, of_cell
from bench.studies.convert.settings import Convert
from bench.studies.convert.training import converted, from_scratch
from bench.studies.session import Session

CHECKPOINTS = "checkpoints"
CONVERTED, SCRATCH = "converted", "from scratch"


class AllDiverged(Exception):
    """No rate gave a score."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One model to convert.

    Attributes:
        key: see `Curve`.
        scratch: cell of the control; the converted model is built from it too.
        teacher: cell of its teacher.
        keep: share of the layers that stay softmax.
    """

    key: str
    scratch: Cell
    teacher: Cell
    keep: float
    expected_s: float = 60.0

    @property
    def row(self) -> tuple[str, str, float]:
        """Mechanism, task and share, whose rates are searched with one seed."""
        return self.scratch.entry, self.scratch.task.label, self.keep

    def describe(self) -> str:
        """Name of the run, e.g. ``linear, keep 0.5, recall_causal, seed 0``."""
        work = self.scratch.task
        return f"{self.scratch.entry}, keep {self.keep:g}, {work.label}, seed {work.seed}"


class Arms:
    """Arms from the store, or trained; a teacher is kept until a run has another."""

    def __init__(self, asked: Convert, session: Session) -> None:
        self._asked, self._session = asked, session
        self._store: Lines[Arm] = Lines(asked.out / ARMS, Arm)
        self._known = {arm.key: arm for arm in self._store.read(missing_ok=True)}
        self._own: dict[str, Any] = {}

    def best(
        self, run: Run, arm: str, rates: Iterable[float], better: str
    ) -> tuple[float, bool, list[Arm]]:
        """The best of some rates, which are widened where it lies at their edge.

        Returns:
            The rate, whether it still lies at an edge, and all arms, that of the rate first.

        Raises:
            AllDiverged: no rate gave a score.
        """
        tried = {rate: self._at(run, arm, rate) for rate in rates}
        for _ in range(MAX_WIDENINGS):
            best = _best(tried, better)
            if best.beyond is None:
                break
            tried[best.beyond] = self._at(run, arm, best.beyond)
        best = _best(tried, better)
        if best.rate is None:
            told = ", ".join(f"{rate:g}" for rate in sorted(tried))
            raise AllDiverged(f"training diverged at all rates that were tried: {told}")
        own = tried.pop(best.rate)
        return best.rate, best.beyond is not None, [own, *tried.values()]

    def teacher(self, run: Run, task: Task) -> nn.Module:
        """The trained model that a run begins from."""
        return self._models(run, task)[0]

    def _at(self, run: Run, arm: str, rate: float) -> Arm:
        key = hashed([run.key, arm, rate])
        if key not in self._known:
            self._known[key] = self._trained(key, run, arm, rate)
            self._store.append(self._known[key])
        return self._known[key]

    def _trained(self, key: str, run: Run, arm: str, rate: float) -> Arm:
        began_s, asked, work = cpu_s(), self._asked, run.scratch.task
        task = build_task(work.task, work.settings)
        teacher, pupil, model = self._models(run, task)
        scores: tuple[float, ...] = ()
        validation = None

        def say(words_: str) -> None:
            self._session.status(f"{run.describe()}, {arm} at {rate:g}: {words_}")

        with suppress(Diverged):
            if arm == CONVERTED:
                model, share = pupil.model, asked.rate_share
                scores = converted(pupil, teacher, task, asked.phases, rate, share, work.seed, say)
            else:
                scores = from_scratch(model, task, asked.phases, rate, work.seed, say)
            validation = score_on_validation(model, task, torch.device("cpu"))
        is_whole = validation is not None
        return Arm(
            key=key,
            scores=scores if is_whole else (),
            validation=validation,
            train_s=cpu_s() - began_s,
        )

    def _models(self, run: Run, task: Task) -> tuple[nn.Module, Pupil, nn.Module]:
        """Teacher, the model to convert, and the control."""
        asked, cell = self._asked, run.scratch
        if asked.teacher is None:
            if run.teacher.key not in self._own:
                model = self._session.trained(run.teacher, asked.out / CHECKPOINTS)
                self._own = {run.teacher.key: model}
            teacher = self._own[run.teacher.key]
            return teacher, of_cell(cell, teacher), of_cell(cell, None).model
        teacher, drawn = load(asked.teacher, task)
        exchange = (cell.mechanism, cell.hyperparameters, run.keep)
        fresh = exchanged_in(drawn(cell.task.seed), *exchange)
        return teacher, exchanged_in(teacher, *exchange), fresh.model


def _best(tried: Mapping[float, Arm], better: str) -> Best:
    return best_of(
        {rate: Trained(score=arm.validation) for rate, arm in tried.items()}, better=better
    )


def hashed(about: list[Any]) -> str:
    """Short hash of what JSON can hold."""
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]
