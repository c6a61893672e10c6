"""Train language models of bytes, predict the largest, train it, and publish what is stored."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from bench.core.cell import Cell
from bench.core.cli.command import read_yaml
from bench.core.cli.errors import ConfigError
from bench.core.cli.stored_files import read_regular
from bench.core.clock import utc_now
from bench.core.lines import Lines
from bench.core.observed import CONTROLS
from bench.core.places import CONF
from bench.core.record import Quality, Record
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
from bench.core.store import latest, read_records
from bench.measuring.config import SweepConfig, training_config
from bench.measuring.tasks.bytes import TEST_SHARE
from bench.publishing.charts.write import write_illustrated
from bench.publishing.leaderboard import build_leaderboard
from bench.publishing.searched import at_best_rate
from bench.studies.rates.tuned import Arm, trainable, trainer, tuned
from bench.studies.session import Session
from bench.studies.text.page import Facts, Point, Prediction, Stored, document_of, power_law

LABEL, PAGE = "bytes", "text.md"
NOVELS = Path("results/text/novels.txt")
Size = Annotated[int, Interval(ge=1, le=1_000_000)]

SCALED = "bytes scaled"
"""Label of the runs of scaled models."""

FACTS, PREDICTIONS = "text.jsonl", "predictions.jsonl"
_OF_ROWS = ("learning_rate", "softmax_layers")
"""Settings in which rows of one comparison differ."""

_OF_SIZES = ("embed_dim", "num_heads", "num_steps")
"""Settings in which scaled models differ besides."""


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
                    f"{key} names {unknown[0]}, which is not a row. Rows: {', '.join(known)}. Say "
                    f"{key}=[...] with some of these, or {key}=[]."
                )
        task = read_yaml(CONF / "task" / "bytes.yaml")["bytes"] | {
            "root": str(self.root),
            "context_len": self.context_len,
            "num_steps": self.num_steps,
            "patience": 1.0,
            **size_of(self.width),
        }
        rows, tasks = composed["attention"], {"bytes": task}
        return training_config(rows, tasks, self.out, seed=self.seed, plugins=self.plugins)


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
        mixed = [arms[name] for name in asked.hybrid if name in arms]
        half = max(1, int(config.task[0].settings["num_layers"]) // 2)
        label = f"{LABEL} softmax_layers={half}"
        train([a.changed(seed, label, softmax_layers=half) for a in mixed for seed in asked.seed])
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


# --- the store -----------------------------------------------------------------------------------


def keep_facts(root: Path, out: Path) -> None:
    """Store the facts of a text beside its models.

    Raises:
        ConfigError: the store holds models of another text.
    """
    store: Lines[Facts] = Lines(out / FACTS, Facts)
    content = read_regular(root)
    unseen = content[len(content) - len(content) // TEST_SHARE :]
    facts = Facts(
        name=root.name,
        num_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        bytes_per_word=len(unseen) / max(1, len(unseen.split())),
    )
    others = [one.name for one in store.read(missing_ok=True) if one.sha256 != facts.sha256]
    if others and read_records(out, missing_ok=True):
        raise ConfigError(
            f"{out} holds models of {others[0]}, and root={root} is another text. Choose another "
            "out=."
        )
    store.write([facts])


def read_stored(out: Path, asked: Mapping[str, Any] | None = None) -> Stored:
    """Read the models of one setting, so that rows of two commands are not compared.

    Args:
        out: a store.
        asked: settings of the comparison to read, of which nothing may be stored; None: the newest.

    Raises:
        ConfigError: nothing was trained there, or the facts of its text are missing.
    """
    everything = latest(read_records(out, missing_ok=asked is not None))
    about = _newest(everything) if asked is None else _but(asked, _OF_ROWS)
    records = [r for r in everything if _but(_setting(r), _OF_SIZES) == _but(about, _OF_SIZES)]
    own = [r for r in records if r.cell.task.label != SCALED and _setting(r) == about]
    rows, settings = {}, ""
    for task in build_leaderboard(at_best_rate(own), CONTROLS, within_budget=True).tasks:
        mixed = task.named_settings.get("softmax_layers", 0)
        settings = settings if mixed else task.settings
        for score in task.scores:
            rows[f"{score.entry} + softmax" if mixed else score.entry] = score
    facts = Lines[Facts](out / FACTS, Facts).read()
    if not facts:
        raise ConfigError(f"{out / FACTS} is empty. The same command, given again, writes it.")
    predictions: Lines[Prediction] = Lines(out / PREDICTIONS, Prediction)
    return Stored(
        records=records,
        rows=dict(sorted(rows.items(), key=lambda row: row[1].accuracy or math.inf)),
        points=_points(records),
        facts=facts[0],
        settings=settings,
        predictions=predictions.read(missing_ok=True),
    )


def _newest(records: Sequence[Record]) -> dict[str, Any]:
    """Settings that the rows of the newest comparison share; empty without one."""
    compared = [record for record in records if record.cell.task.label != SCALED]
    newest = max(compared, key=lambda record: record.started_at, default=None)
    return _setting(newest) if newest else {}


def _setting(record: Record) -> dict[str, Any]:
    return _but(record.cell.task.shared_settings, _OF_ROWS)


def _but(settings: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in names}


def _points(records: Sequence[Record]) -> dict[str, list[Point]]:
    """Scaled models by entry, among them those that the comparison had trained already."""
    scaled = [r.cell for r in records if r.cell.task.label == SCALED]
    arms = {(c.entry, c.task.settings["learning_rate"], c.task.seed) for c in scaled}
    widths, budgets = ({c.task.settings[key] for c in scaled} for key in ("embed_dim", "num_steps"))
    found: dict[str, list[Point]] = {}
    for record in records:
        entry, work, result = record.cell.entry, record.cell.task.settings, record.result
        is_scaled = (entry, work["learning_rate"], record.cell.task.seed) in arms
        is_scaled &= work["embed_dim"] in widths and work["num_steps"] in budgets
        if is_scaled and isinstance(result, Quality) and not work.get("softmax_layers"):
            count, steps = result.num_parameters, int(work["num_steps"])
            point = Point(num_parameters=count, num_steps=steps, loss=result.accuracy)
            found.setdefault(entry, []).append(point)
    return found


def write_page(store: Path, page: Path, command: str, tasks: Sequence[str] = ()) -> list[Path]:
    """Write the page of a store and its pictures; returns their paths. Nothing is trained.

    Raises:
        ConfigError: nothing was trained there, or a file cannot be written.
    """
    return write_illustrated(document_of(read_stored(store), command), page)
