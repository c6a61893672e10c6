"""Train language models of bytes, predict the largest, train it, and publish what is stored."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from bench.core.cell import Cell
from bench.core.cli.command import read_yaml
from bench.core.cli.errors import ConfigError
from bench.core.clock import utc_now
from bench.core.lines import Lines
from bench.core.places import CONF
from bench.core.settings import (
    Budget,
    Folder,
    Interval,
    Many,
    Name,
    Rows,
    Seed,
    Settings,
    Some,
    rows,
)
from bench.measuring.config import SweepConfig, training_config
from bench.studies.rates.rows import trainable, trainer
from bench.studies.rates.tuned import Arm, tuned
from bench.studies.session import Session
from bench.studies.text.page import document_of
from bench.studies.text.scaling import Point, power_law
from bench.studies.text.stored import PREDICTIONS, SCALED, Prediction, keep_facts, read_stored

LABEL, PAGE = "bytes", "text.md"
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
    """Channels of a token in the comparison, in heads of 16, or in one if 16 does not divide it."""
    widths: Many[Size] = (32, 64, 128)
    """Channels of a token of scaled models."""
    budgets: Many[Size] = (250, 500, 1000)
    """Updates of scaled models."""
    largest: bool = False
    """Train the largest width at the largest budget, which was predicted before."""
    seed: Many[Seed] = (0, 1, 2)
    """Seeds of the comparison; the first is that of the search and of scaled models."""
    budget: Budget | None = None
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
                f"root={self.root} is not a file. Name a text file, or build the novels with "
                f"python -m bench.studies.text.novels {NOVELS}"
            )
        known = [row.label for row in self.attention]
        for key, names in (("hybrid", self.hybrid), ("scaled", self.scaled)):
            if unknown := [name for name in names if name not in known]:
                raise ConfigError(
                    f"{key} names {unknown[0]}, which is no row. Rows: {', '.join(known)}. Say "
                    f"{key}=[...] with some of these, or {key}=[]."
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


def study(asked: Text, session: Session) -> None:
    """Train as far as the budget goes, and write the page of what is there."""
    config = asked.training(session.composed)
    predictions: Lines[Prediction] = Lines(asked.out / PREDICTIONS, Prediction)
    if asked.largest and not predictions.read(missing_ok=True):
        raise ConfigError(
            f"largest=true needs predictions in {predictions.path}, made before. Run the same "
            "command without it, and commit that file."
        )
    cells = trainable(config, session)
    settings = cells[0].task.shared_settings if cells else {}
    keep_facts(asked.root, asked.out)
    with trainer(config, session, asked.budget) as train:
        tried = tuned(cells, asked.seed, train, looks_further=False).values()
        arms = {arm.row.cell.entry: arm for arm in tried}
        train([c for name in asked.hybrid if name in arms for c in _hybrids(arms[name], asked)])
        own = [arms[name] for name in asked.scaled if name in arms]
        train([cell for arm in own for cell in _scaled(arm, asked)[:-1]])
        _predict(own, asked, predictions, read_stored(asked.out, settings).points)
        if asked.largest:
            train([_scaled(arm, asked)[-1] for arm in own])
    found = read_stored(asked.out, settings)
    if not found.rows:
        session.say("Nothing was trained.")
        return
    session.publish(document_of(found, session.command("docs", "budget")), asked.docs / PAGE)


def _hybrids(arm: Arm, asked: Text) -> list[Cell]:
    half = max(1, int(arm.row.cell.task.settings["num_layers"]) // 2)
    label = f"{LABEL} softmax_layers={half}"
    return [arm.changed(seed, label, softmax_layers=half) for seed in asked.seed]


def _scaled(arm: Arm, asked: Text) -> list[Cell]:
    """Every width at every budget, the cheapest first, so that the largest is the last."""
    sizes = sorted((w * w * steps, w, steps) for w in asked.widths for steps in asked.budgets)
    return [
        arm.changed(asked.seed[0], SCALED, num_steps=steps, **size_of(width))
        for _, width, steps in sizes
    ]


def _predict(
    arms: Sequence[Arm],
    asked: Text,
    store: Lines[Prediction],
    points: Mapping[str, Sequence[Point]],
) -> None:
    """Store the prediction by the fit of the smaller models, once for each row and largest model.

    A row whose largest model is trained already gets none: that would be no prediction.
    """
    from bench.measuring.tasks.base import build_task
    from bench.measuring.tasks.model import build_model

    known = store.read(missing_ok=True)
    for arm in arms:
        name, last = arm.row.cell.entry, _scaled(arm, asked)[-1]
        trained = points.get(name, ())
        law = power_law(trained)
        if law is None:
            continue
        model = build_model(
            build_task("bytes", last.task.settings), last.mechanism, last.hyperparameters, 0
        )
        count = sum(p.numel() for p in model.parameters())
        num_steps = int(last.task.settings["num_steps"])
        said = {prediction.size for prediction in known if prediction.attention == name}
        if (count, num_steps) in said | {point.size for point in trained}:
            continue
        bits, low, high = law.predicted(count, num_steps)
        store.append(
            Prediction(
                attention=name,
                num_parameters=count,
                num_steps=num_steps,
                bits=bits,
                low=low,
                high=high,
                made_at=utc_now(),
            )
        )
