"""A store of language models: its text, the rows of one comparison, scaled models, predictions."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.core.cli.errors import ConfigError
from bench.core.cli.limits import Amount, Count, Name, Number, Size, Text
from bench.core.cli.stored_files import read_regular
from bench.core.lines import Lines
from bench.core.observed import CONTROLS
from bench.core.record import Quality, Record
from bench.core.store import latest, read_records
from bench.measuring.tasks.bytes import TEST_SHARE
from bench.publishing.leaderboard import build_leaderboard
from bench.publishing.scores import Score
from bench.publishing.searched import at_best_rate
from bench.studies.text.scaling import Point, PowerLaw, power_law

SCALED = "bytes scaled"
"""Label of the runs of scaled models."""

FACTS, PREDICTIONS = "text.jsonl", "predictions.jsonl"
_OF_ROWS = ("learning_rate", "softmax_layers")
"""Settings in which rows of one comparison differ."""

_OF_SIZES = ("embed_dim", "num_heads", "num_steps")
"""Settings in which scaled models differ besides."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A text: its name, size and hash, and the bytes per word of its unseen part."""

    name: Text
    num_bytes: Count
    sha256: Text
    bytes_per_word: Amount


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Bits per byte of the largest model by the fit of smaller ones, before it is trained.

    Attributes:
        bits, low, high: prediction and its 95 % interval.
        made_at: UTC, ISO 8601.
    """

    attention: Name
    num_parameters: Size
    num_steps: Size
    bits: Number
    low: Number
    high: Number
    made_at: Text

    @property
    def size(self) -> tuple[int, int]:
        """Parameters and updates."""
        return self.num_parameters, self.num_steps


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Models of one setting: rows of the comparison by name, scaled models by entry."""

    records: Sequence[Record]
    rows: Mapping[str, Score]
    points: Mapping[str, Sequence[Point]]
    facts: Facts
    settings: str
    predictions: Sequence[Prediction]


def keep_facts(root: Path, out: Path) -> None:
    """Store the facts of a text beside its models.

    Raises:
        ConfigError: the store holds models of another text.
    """
    store: Lines[Facts] = Lines(out / FACTS, Facts)
    facts = _facts(root)
    others = [one.name for one in store.read(missing_ok=True) if one.sha256 != facts.sha256]
    if others and read_records(out, missing_ok=True):
        raise ConfigError(
            f"{out} holds models of {others[0]}, and root={root} is another text. Choose another "
            "out=."
        )
    store.write([facts])


def _facts(root: Path) -> Facts:
    content = read_regular(root)
    unseen = content[len(content) - len(content) // TEST_SHARE :]
    return Facts(
        name=root.name,
        num_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        bytes_per_word=len(unseen) / max(1, len(unseen.split())),
    )


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


def fit(found: Stored, name: str) -> tuple[PowerLaw | None, Prediction | None]:
    """The power law of all models except the predicted one, and the newest prediction.

    A prediction for a number of parameters that no model here has is of other settings.
    """
    points = found.points[name]
    counts = {point.num_parameters for point in points}
    own = [p for p in found.predictions if p.attention == name and p.num_parameters in counts]
    said = own[-1] if own else None
    return power_law([p for p in points if not said or p.size != said.size]), said
