"""Settings of `bench.explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

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
)
from bench.core.settings import rows as named
from bench.studies.explain.methods import NAMES

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

    attention: Rows = named("softmax", "nala", "flatten")
    explain: Many[Annotated[str, Word(lambda: NAMES)]] = NAMES
    """Methods; see bench/studies/explain/methods.py."""
    num_images: Annotated[int, Interval(ge=2, le=10_000)] = 256
    """Test canvases; each class on them is explained."""
    seed: Many[Seed] = (0,)
    """Seed of training, or a list of them."""
    identity: Literal["after_prior", "before_prior"] = "after_prior"
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
    """Trained models, and explain.csv with a row for each."""
