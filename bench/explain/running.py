"""Models, trained once and kept, and what every method scores on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from attentions import AttentionLayer, attention_class
from bench.app.entries import TaskEntry
from bench.app.errors import ConfigError
from bench.cell import Cell, TaskWorkload
from bench.explain.config import ExplainConfig
from bench.explain.methods import relevance
from bench.explain.scores import SCORES, curves, located
from bench.machine import environment
from bench.plan import checked_settings, why_unsupported
from bench.progress import UnitProgress
from bench.tasks.base import build_task, generator
from bench.tasks.canvas import Canvas, Canvases
from bench.tasks.checkpoint import Checkpoint, CheckpointRefused
from bench.tasks.digits import noise
from bench.tasks.model import Backbone, build_model
from bench.tasks.train import Diverged, fitted
from bench.tasks.watching import layers_for

_CHUNK = 64  # images that are explained at once
_INSERTED = "inserted"
_STEP_S, _IMAGE_S = 0.05, 0.01  # guesses; the progress bar corrects them by how they turn out


@dataclass(frozen=True, kw_only=True)
class Run:
    """A model to train and to explain."""

    cell: Cell
    expected_s: float

    def describe(self) -> str:
        """As ``nala seed 0``."""
        return f"{self.cell.entry} seed {self.cell.task.seed}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one method scores on one model.

    Attributes:
        accuracy: of the model, on the images that are explained.
        samples: by score, one number per image: the mean over its digits.
        inserted: the class's probability at each share of patches shown, the mean over images.
    """

    entry: str
    method: str
    seed: int
    accuracy: float
    samples: Mapping[str, Tensor]
    inserted: tuple[float, ...]


def runs_of(
    config: ExplainConfig, hyperparameters: Mapping[str, dict[str, Any]]
) -> tuple[list[Run], list[str]]:
    """The models to train, and a sentence for each entry that cannot be explained.

    Raises:
        ConfigError: settings of the task that cannot be.
    """
    entry = TaskEntry(label="canvas", task="canvas", settings=dict(config.canvas))
    settings = checked_settings(entry)
    task = _task(settings)
    runs, skipped = [], []
    for row in config.attention:
        cells = [
            Cell(
                entry=row.label,
                mechanism=row.mechanism,
                hyperparameters=hyperparameters[row.label],
                device="cpu",
                num_threads=1,
                workload=TaskWorkload(label="canvas", task="canvas", settings=settings, seed=seed),
                plugins=config.plugins,
            )
            for seed in config.seed
        ]
        if reason := _why_no_weights(cells[0], task):
            skipped.append(f"{row.label} is skipped: {reason}")
            continue
        expected_s = task.recipe.num_steps * _STEP_S
        expected_s += config.num_images * task.num_digits * len(config.explain) * _IMAGE_S
        runs += [Run(cell=cell, expected_s=expected_s) for cell in cells]
    return runs, skipped


def explained_rows(
    config: ExplainConfig, runs: Sequence[Run], console: Console
) -> Iterator[tuple[Run, list[Row] | str]]:
    """Train each model, or go on from where it stands on the disk, and score every method on it.

    Of one that diverged there is a sentence in the place of scores.

    Raises:
        ConfigError: a checkpoint of another configuration.
    """
    torch.set_num_threads(1)
    here = environment.current(("cpu",), "default", {})
    with UnitProgress(console, runs) as progress:
        for run in runs:
            progress.begin(run)

            def report(
                phase: str, step: int, num_steps: int, *_: Any, name: str = run.describe()
            ) -> None:
                progress.say(f"{name}: step {step} of {num_steps}")

            path = config.out / "models" / f"{run.cell.key}.pt"
            source = environment.source_of_training(run.cell, here)
            checkpoint = Checkpoint(path, run.cell.key, source)
            try:
                model = fitted(run.cell, report, checkpoint)
            except CheckpointRefused as error:
                raise ConfigError(str(error)) from error
            except Diverged as error:
                progress.finish(run)
                yield run, f"{run.describe()} is left out: {error}."
                continue
            progress.say(f"{run.describe()}: explaining")
            rows = scored(model, run.cell, config)
            progress.finish(run)
            yield run, rows


def scored(model: Backbone, cell: Cell, config: ExplainConfig) -> list[Row]:
    """Every method's scores for every shown class, averaged within an image."""
    task = _task(cell.task.settings)
    canvases = task.test(config.num_images)
    right, parts = 0.0, []
    stream = generator(cell.task.seed, "explain")
    for chosen in torch.arange(config.num_images).split(_CHUNK):
        some = Canvases(
            batch=canvases.batch.select(chosen),
            classes=canvases.classes[chosen],
            masks=canvases.masks[chosen],
        )
        with torch.no_grad():
            logits = model(some.batch.inputs, some.batch.positions)
        right += task.score(logits, some.batch) * len(chosen)
        parts.append(_of_images(model, task, some, config, stream))
    return [
        Row(
            entry=cell.entry,
            method=method,
            seed=cell.task.seed,
            accuracy=right / config.num_images,
            samples={name: torch.cat([part[method][name] for part in parts]) for name in SCORES},
            inserted=tuple(torch.cat([p[method][_INSERTED] for p in parts]).mean(dim=0).tolist()),
        )
        for method in config.explain
    ]


def _of_images(
    model: Backbone, task: Canvas, some: Canvases, config: ExplainConfig, stream: torch.Generator
) -> dict[str, dict[str, Tensor]]:
    """By method and score, (B,), and `_INSERTED`, (B, shares)."""
    blank = 2 * noise(tuple(some.batch.inputs.shape), stream) - 1
    if task.class_token:
        blank[:, 0] = some.batch.inputs[:, 0]
    found: dict[str, dict[str, list[Tensor]]] = {
        method: {name: [] for name in (*SCORES, _INSERTED)} for method in config.explain
    }
    for digit in range(task.num_digits):
        classes = some.classes[:, digit]
        layers = layers_for(model, some.batch, classes)
        for method in config.explain:
            map_ = relevance(
                method, layers, config.identity, class_token=task.class_token, stream=stream
            )
            for name, value in _scores(model, task, some, digit, map_, blank).items():
                found[method][name].append(value)
    return {
        method: {name: torch.stack(values).mean(dim=0) for name, values in by_name.items()}
        for method, by_name in found.items()
    }


def _scores(
    model: Backbone, task: Canvas, some: Canvases, digit: int, map_: Tensor, blank: Tensor
) -> dict[str, Tensor]:
    """Relevance of the class token is nothing that lies on the canvas: it is left out."""
    first = int(task.class_token)
    own, any_ = some.masks[:, digit], some.masks.any(dim=1)
    scores = dict(located(map_[:, first:], own[:, first:], any_[:, first:]))
    ordered = map_.clone()
    ordered[:, :first] = -torch.inf
    found = curves(model, some.batch, some.classes[:, digit], ordered, blank)
    scores |= {name: points.mean(dim=1) for name, points in found.items()}
    return scores | {_INSERTED: found["insertion"]}


def _why_no_weights(cell: Cell, task: Canvas) -> str:
    """Asked of an untrained model on two images; empty if it has weights, with gradients."""
    mechanism = attention_class(cell.mechanism)
    if reason := why_unsupported(mechanism.capabilities, cell):
        return reason
    if issubclass(mechanism, AttentionLayer):
        return f"{cell.mechanism} has no weights to look at: it owns its projections."
    try:
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
