"""Train models once and keep them, and score every method on them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor

from attentions import AttentionLayer, attention_class
from bench.core.cell import Cell
from bench.core.cli.errors import ConfigError
from bench.core.grouping import grouped
from bench.core.settings import (
    Field,
    Folder,
    Interval,
    Many,
    Name,
    Rows,
    Seed,
    Settings,
    Some,
    Word,
    rows,
)
from bench.measuring.config import training_config
from bench.measuring.plugins import PluginFailed, code_of
from bench.measuring.tasks.base import build_task, generator
from bench.measuring.tasks.canvas import Canvas, Canvases
from bench.measuring.tasks.digits import noise
from bench.measuring.tasks.model import Backbone, build_model
from bench.measuring.tasks.train import Diverged
from bench.studies.explain.methods import NAMES, layers_for, relevance
from bench.studies.explain.scores import SCORES, Images, curves, located
from bench.studies.session import Session

_CHUNK = 64  # images that are explained at once
_INSERTED = "inserted"
_STEP_S, _IMAGE_S = 0.05, 0.01  # guesses; the progress bar corrects them by how they turn out

Identity = Literal["after_prior", "before_prior"]

CANVAS = {
    "canvas_size": 24,
    "num_digits": 2,
    "num_scraps": 3,
    "class_token": True,
    "embed_dim": 64,
    "num_heads": 4,
    "num_layers": 2,
    "num_steps": 700,
    "batch_size": 64,
    "learning_rate": 0.003,
}


class Explain(Settings):
    """Explain the answers of a small vision transformer on canvases, with each mechanism in it.

    Explanations by several methods are scored against the true positions of the digits.
    """

    attention: Rows = rows("softmax", "nala", "flatten")
    explain: Many[Annotated[str, Word(lambda: NAMES)]] = NAMES
    """Methods; see bench/studies/explain/methods.py."""
    num_images: Annotated[int, Interval(ge=2, le=10_000)] = 256
    """Test canvases; each class on them is explained."""
    seed: Many[Seed] = (0,)
    """Seed of training, or a list of them."""
    identity: Identity = "after_prior"
    """decision_aware: I / 2 is added after attention is multiplied by the prior, or before."""
    canvas: dict[str, Any] = Field(default=CANVAS)
    """The task, as in conf/task/canvas.yaml. Two digits of different classes show whether a method
    separates classes.
    """
    plugins: Some[Name] = ()
    """Modules to import that register further mechanisms."""
    docs: Folder = Path("${out}")
    """Folder for explain.md and its pictures, e.g. docs/results."""
    out: Folder = Path("results/explain")
    """Trained models, and explain.jsonl with their scores on each image."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A model to train and to explain."""

    cell: Cell
    expected_s: float

    def describe(self) -> str:
        """As ``nala seed 0``."""
        return f"{self.cell.entry} seed {self.cell.task.seed}"


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of one method on one model, as a line of ``explain.jsonl``.

    Attributes:
        accuracy: of the model, on the images that are explained.
        identity: the setting of that name.
        samples: by score, one number per image: the mean over its digits; None if it has none.
        inserted: the class's probability at each share of patches shown, the mean over images.
    """

    entry: Name
    method: Name
    seed: Seed
    accuracy: float
    identity: Identity
    samples: Mapping[str, tuple[float | None, ...]]
    inserted: tuple[float, ...]

    def of_images(self, score: str) -> Images:
        """The samples of a score."""
        return np.array(self.samples[score], dtype=np.float64)


def runs_of(asked: Explain, session: Session) -> list[Run]:
    """The models to train; a note for each entry that cannot be explained.

    Raises:
        ConfigError: wrong settings of the task, or nothing is left to explain.
    """
    canvas = {"canvas": {"task": "canvas", **asked.canvas}}
    more = {"seed": list(asked.seed), "plugins": list(asked.plugins), "device": "cpu"}
    config = training_config(session.composed["attention"], canvas, asked.out, **more)
    runs: list[Run] = []
    for label, planned in grouped(session.plan(config), lambda p: p.cell.entry).items():
        task = _task(planned[0].cell.task.settings)
        expected_s = task.recipe.num_steps * _STEP_S
        expected_s += asked.num_images * task.num_digits * len(asked.explain) * _IMAGE_S
        if reason := planned[0].unsupported or _why_no_weights(planned[0].cell, task):
            session.note(f"{label} is skipped: {reason}")
            continue
        runs += [Run(cell=p.cell, expected_s=expected_s) for p in planned]
    if not runs:
        raise ConfigError(
            f"Nothing is left to explain. {' '.join(session.notes)} Take softmax, nala or flatten."
        )
    return runs


def scored(run: Run, asked: Explain, session: Session) -> list[Scores]:
    """Train a model, or reload it, and score every method on it, averaged within each image.

    Empty, with a note, if training diverged, or if a plugin raised an error.
    """
    try:
        with code_of(run.cell.mechanism):
            return _scored(run, asked, session)
    except (Diverged, PluginFailed) as error:
        session.note(f"{run.describe()} is left out: {error}.")
        return []


def _scored(run: Run, asked: Explain, session: Session) -> list[Scores]:
    cell = run.cell
    model = session.trained(cell, asked.out / "checkpoints", run.describe())
    session.status(f"{run.describe()}: explaining")
    task = _task(cell.task.settings)
    canvases = task.test(asked.num_images)
    right, parts = 0.0, []
    stream = generator(cell.task.seed, "explain")
    for chosen in torch.arange(asked.num_images).split(_CHUNK):
        some = Canvases(
            batch=canvases.batch.select(chosen),
            classes=canvases.classes[chosen],
            masks=canvases.masks[chosen],
        )
        with torch.no_grad():
            logits = model(some.batch.inputs, some.batch.positions)
        right += task.score(logits, some.batch) * len(chosen)
        parts.append(_of_images(model, task, some, asked, stream))
    joined = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    return [
        Scores(
            entry=cell.entry,
            method=method,
            seed=cell.task.seed,
            accuracy=right / asked.num_images,
            identity=asked.identity,
            samples={name: _stored(joined[method, name]) for name in SCORES},
            inserted=tuple(map(_rounded, joined[method, _INSERTED].mean(dim=0).tolist())),
        )
        for method in asked.explain
    ]


def _rounded(value: float) -> float:
    """A share as it is stored, with more digits than thousands of images can tell."""
    return round(value, 5)


def _stored(samples: Tensor) -> tuple[float | None, ...]:
    return tuple(None if math.isnan(x) else _rounded(x) for x in samples.tolist())


def _of_images(
    model: Backbone, task: Canvas, some: Canvases, asked: Explain, stream: torch.Generator
) -> dict[tuple[str, str], Tensor]:
    """Scores of each image by method and score, (B,) each; (B, NUM_SHARES) for `_INSERTED`."""
    blank = 2 * noise(tuple(some.batch.inputs.shape), stream) - 1
    if task.class_token:
        blank[:, 0] = some.batch.inputs[:, 0]
    found: dict[tuple[str, str], list[Tensor]] = {}
    for digit in range(task.num_digits):
        layers = layers_for(model, some.batch, some.classes[:, digit])
        for method in asked.explain:
            map_ = relevance(
                method, layers, asked.identity, class_token=task.class_token, stream=stream
            )
            for name, value in _scores(model, task, some, digit, map_, blank).items():
                found.setdefault((method, name), []).append(value)
    return {key: torch.stack(values).mean(dim=0) for key, values in found.items()}


def _scores(
    model: Backbone, task: Canvas, some: Canvases, digit: int, map_: Tensor, blank: Tensor
) -> dict[str, Tensor]:
    """Scores of one digit in each image, (B,) each, and its insertion curve, (B, NUM_SHARES).

    The class token is left out, since it is not a place on the canvas.
    """
    first = int(task.class_token)
    own, any_ = some.masks[:, digit], some.masks.any(dim=1)
    scores = dict(located(map_[:, first:], own[:, first:], any_[:, first:]))
    ordered = map_.clone()
    ordered[:, :first] = -torch.inf
    found = curves(model, some.batch, some.classes[:, digit], ordered, blank)
    scores |= {name: points.mean(dim=1) for name, points in found.items()}
    return scores | {_INSERTED: found["insertion"]}


def _why_no_weights(cell: Cell, task: Canvas) -> str:
    """Reason why an untrained model gives no weights with gradients on two images; else empty."""
    if issubclass(attention_class(cell.mechanism), AttentionLayer):
        return f"{cell.mechanism} has no weights to look at: it owns its projections."
    try:
        with code_of(cell.mechanism):
            model = build_model(task, cell.mechanism, cell.hyperparameters, cell.task.seed).eval()
            two = task.test(2)
            layers_for(model, two.batch, two.classes[:, 0])
    except (ValueError, TypeError) as error:  # `NoWeights` as well
        return str(error)
    return ""


def _task(settings: Mapping[str, Any]) -> Canvas:
    task = build_task("canvas", dict(settings))
    assert isinstance(task, Canvas)
    return task
