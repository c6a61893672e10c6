"""Settings of `bench.convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from bench.core.grid import GRIDS
from bench.core.settings import (
    Folder,
    Group,
    Interval,
    Many,
    Name,
    Rows,
    Seed,
    Settings,
    Some,
    Span,
    chosen,
    rows,
)

Steps = Annotated[int, Interval(ge=0, le=1_000_000)]


class Convert(Settings):
    """Exchange the layers of a trained softmax model for another mechanism, and train it further.

    Three phases: the exchanged layers learn the outputs of those that they replace, then the model
    learns the logits of the one before, then the labels. The control is the same model trained from
    scratch on as many batches.
    """

    attention: Rows = rows("linear", "hedgehog", "gla", "gated_deltanet")
    task: Annotated[dict[str, Any], Group("task")] = chosen("recall_causal")
    keep: Many[Annotated[float, Interval(ge=0.0, lt=1.0)]] = (0.0, 0.25, 0.5)
    """Share of the layers that stay softmax, rounded to whole layers, evenly spaced, the last among
    them.
    """
    num_layers: Annotated[int, Interval(ge=1, le=64)] = 4
    """Layers of a teacher that is trained here."""
    teacher: Folder | None = None
    """Folder of a trained model of yours, for Transformers or timm; it gets the task's inputs."""
    match_steps: Steps = 60
    """Steps of the first phase."""
    distil_steps: Steps = 60
    """Steps of the second."""
    tune_steps: Steps = 60
    """Steps of the third."""
    rate_share: Annotated[float, Interval(gt=0.0, le=10.0)] = 0.3
    """Learning rate of phases two and three, as a share of the first's."""
    learning_rates: Many[Annotated[float, Interval(gt=0.0, le=10.0)]] = GRIDS["usual"]
    """Learning rates to try for either arm alone, with the first seed, on validation examples; with
    one, no search.
    """
    seed: Many[Seed] = (0, 1, 2)
    """Seed of weights and data, one or a list."""
    budget: Span | None = None
    """30m, 2h: no model begins that would end later; the same command goes on from there."""
    plugins: Some[Name] = ()
    """Modules to import that register further mechanisms or tasks."""
    docs: Folder = Path("${out}")
    """Folder for conversion.md and its pictures, e.g. docs/results."""
    out: Folder = Path("results/conversion")
    """Folder of curves.jsonl, arms.jsonl and trained teachers."""

    @property
    def phases(self) -> tuple[int, int, int]:
        """Steps of each phase."""
        return self.match_steps, self.distil_steps, self.tune_steps
