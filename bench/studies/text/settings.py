"""Settings of `bench.text`, and the training runs that follow from them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from bench.core.cli.command import read_yaml
from bench.core.cli.errors import ConfigError
from bench.core.places import CONF
from bench.core.settings import (
    Folder,
    Interval,
    Many,
    Name,
    Rows,
    Seed,
    Settings,
    Some,
    Span,
    rows,
)
from bench.measuring.config import SweepConfig, training_config

NOVELS = Path("results/text/novels.txt")
Size = Annotated[int, Interval(ge=1, le=1_000_000)]


class Text(Settings):
    """Train language models of bytes: rows compared over seeds, then widths by budgets of one seed.

    Rates are searched once per row, at the width and budget of the comparison. The largest runs are
    predicted by a fit of all smaller ones, which is stored before they can be asked for.
    """

    attention: Rows = rows("softmax", "linear", "gla", "gated_deltanet")
    hybrid: Some[Name] = ("gated_deltanet",)
    """Rows that are trained with half of their layers softmax too, at the rate they have alone."""
    scaled: Some[Name] = ("softmax", "gated_deltanet")
    """Rows that are trained at each width and budget."""
    root: Folder = NOVELS
    """A file of text, of 10 (context_len + 1) bytes or more; the last tenth is tested on."""
    context_len: Size = 128
    """Bytes that a model sees."""
    num_steps: Size = 1000
    """Updates of the comparison."""
    width: Size = 64
    """Channels of a token in the comparison, in heads of 16."""
    widths: Many[Size] = (32, 64, 128)
    """Channels of a token of scaled models."""
    budgets: Many[Size] = (250, 500, 1000)
    """Updates of scaled models."""
    largest: bool = False
    """Train the largest width at the largest budget, which was predicted before."""
    seed: Many[Seed] = (0, 1, 2)
    """Seeds of the comparison; the first is that of the search and of scaled models."""
    budget: Span | None = None
    """30m, 2h: no training goes on after it; the same command goes on from there."""
    plugins: Some[Name] = ()
    """Modules to import that register further mechanisms."""
    docs: Folder = Path("${out}")
    """Folder for text.md and its pictures, e.g. docs/results."""
    out: Folder = Path("results/text")
    """Folder of records, text.jsonl and predictions.jsonl."""

    def training(self, composed: Mapping[str, Any]) -> SweepConfig:
        """A sweep of the rows over the one task.

        Raises:
            ConfigError: the text does not exist or is too short, or a name is not a row.
        """
        if not os.path.isfile(self.root):
            raise ConfigError(
                f"root={self.root} is no file. Name a text of yours, or make that of the novels: "
                f"python -m bench.studies.text.novels {NOVELS}"
            )
        known = [row.label for row in self.attention]
        for key, names in (("hybrid", self.hybrid), ("scaled", self.scaled)):
            if unknown := [name for name in names if name not in known]:
                raise ConfigError(
                    f"{key} names {unknown[0]}, which is no row. Rows: {', '.join(known)}."
                )
        task = read_yaml(CONF / "task" / "bytes.yaml")["bytes"] | {
            "root": str(self.root),
            "context_len": self.context_len,
            "num_steps": self.num_steps,
            "patience": 1.0,
            **size_of(self.width),
        }
        more = {"seed": list(self.seed), "plugins": list(self.plugins)}
        return training_config(composed["attention"], {"bytes": task}, self.out, **more)


def size_of(width: int) -> dict[str, int]:
    """Settings of a model's width: heads of 16 channels, or one if 16 does not divide the width."""
    return {"embed_dim": width, "num_heads": 1 if width % 16 else width // 16}
