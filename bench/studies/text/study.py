"""Train, predict, train the largest, and write the page of what is stored."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.core.cell import Cell
from bench.core.cli.errors import ConfigError
from bench.core.clock import utc_now
from bench.core.lines import Lines
from bench.core.observed import CONTROLS
from bench.core.record import Quality, Record
from bench.core.store import latest, read_records
from bench.measuring.tasks.bytes import TEST_SHARE
from bench.publishing.accuracy import origin
from bench.publishing.charts.plain import Curves, chart_of
from bench.publishing.charts.spec import Chart
from bench.publishing.charts.write import write_illustrated
from bench.publishing.document import (
    Block,
    Bullets,
    Column,
    Command,
    Document,
    Estimate,
    Figure,
    Heading,
    Prose,
    Table,
    Text,
    Value,
    words,
)
from bench.publishing.leaderboard import build_leaderboard
from bench.publishing.scores import Score
from bench.publishing.searched import at_best_rate
from bench.publishing.tables import machine_words
from bench.publishing.templates import prose
from bench.studies.hybrids import decided
from bench.studies.rates.rows import trainable, trainer
from bench.studies.rates.tuned import Arm, tuned
from bench.studies.session import Session
from bench.studies.text.scaling import Point, PowerLaw, power_law
from bench.studies.text.settings import Text as Asked
from bench.studies.text.settings import size_of

LABEL, SCALED = "bytes", "bytes scaled"
PAGE, FACTS, PREDICTIONS = "text.md", "text.jsonl", "predictions.jsonl"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A text: its name, size and hash, and the bytes per word of its unseen part."""

    name: str
    num_bytes: int
    sha256: str
    bytes_per_word: float


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Bits per byte of the largest model by the fit of smaller ones, before it is trained.

    Attributes:
        bits, low, high: prediction and its 95 % interval.
        made_at: UTC, ISO 8601.
    """

    attention: str
    num_parameters: int
    num_steps: int
    bits: float
    low: float
    high: float
    made_at: str


def study(asked: Asked, session: Session) -> None:
    """Train as far as the budget goes, and write the page of what is there."""
    config = asked.training(session.composed)
    predictions: Lines[Prediction] = Lines(asked.out / PREDICTIONS, Prediction)
    if asked.largest and not predictions.read(missing_ok=True):
        raise ConfigError(
            f"largest=true needs predictions in {predictions.path}, made before. Run the same "
            "command without it, and commit that file."
        )
    cells = trainable(config, session)
    Lines[Facts](asked.out / FACTS, Facts).write([_facts(asked.root)])
    with trainer(config, session, asked.budget) as train:
        tried = tuned(cells, asked.seed, train, looks_further=False).values()
        arms = {arm.row.cell.entry: arm for arm in tried}
        train([c for name in asked.hybrid if name in arms for c in _hybrids(arms[name], asked)])
        own = [arms[name] for name in asked.scaled if name in arms]
        train([cell for arm in own for cell in _scaled(arm, asked)[:-1]])
        _predict(own, asked, predictions)
        if asked.largest:
            train([_scaled(arm, asked)[-1] for arm in own])
    if not read_records(asked.out, missing_ok=True):
        session.say("Nothing was trained.")
        return
    found = _read(asked.out)
    document = partial(document_of, found, session.command("docs", "budget"))
    session.publish(asked.docs / PAGE, charts(found), document)


def _facts(root: Path) -> Facts:
    content = root.read_bytes()
    unseen = content[len(content) - len(content) // TEST_SHARE :]
    return Facts(
        name=root.name,
        num_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        bytes_per_word=len(unseen) / max(1, len(unseen.split())),
    )


def _hybrids(arm: Arm, asked: Asked) -> list[Cell]:
    half = max(1, int(arm.row.cell.task.settings["num_layers"]) // 2)
    label = f"{LABEL} softmax_layers={half}"
    return [arm.changed(seed, label, softmax_layers=half) for seed in asked.seed]


def _scaled(arm: Arm, asked: Asked) -> list[Cell]:
    """Every width at every budget, the cheapest first, so that the largest is the last."""
    sizes = sorted((w * w * steps, w, steps) for w in asked.widths for steps in asked.budgets)
    return [
        arm.changed(asked.seed[0], SCALED, num_steps=steps, **size_of(width))
        for _, width, steps in sizes
    ]


def _predict(arms: Sequence[Arm], asked: Asked, store: Lines[Prediction]) -> None:
    """Store the prediction by the fit of the smaller models, once for each row.

    A row whose largest model is trained already gets none: that would be no prediction.
    """
    from bench.measuring.tasks.base import build_task
    from bench.measuring.tasks.model import build_model

    known = {one.attention for one in store.read(missing_ok=True)}
    points = _read(asked.out).points
    for arm in arms:
        last = _scaled(arm, asked)[-1]
        trained = points.get(arm.row.cell.entry, ())
        law = power_law(trained)
        if law is None or arm.row.cell.entry in known:
            continue
        model = build_model(
            build_task("bytes", last.task.settings), last.mechanism, last.hyperparameters, 0
        )
        count = sum(p.numel() for p in model.parameters())
        num_steps = int(last.task.settings["num_steps"])
        if any((p.num_parameters, p.num_steps) == (count, num_steps) for p in trained):
            continue
        bits, low, high = law.predicted(count, num_steps)
        store.append(
            Prediction(
                attention=arm.row.cell.entry,
                num_parameters=count,
                num_steps=num_steps,
                bits=bits,
                low=low,
                high=high,
                made_at=utc_now(),
            )
        )


# --- what is stored -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Content of a store: rows of the comparison by name, scaled models by entry."""

    records: Sequence[Record]
    rows: Mapping[str, Score]
    points: Mapping[str, Sequence[Point]]
    facts: Facts
    settings: str
    predictions: Sequence[Prediction]


def _read(out: Path) -> Stored:
    """Read a store.

    Raises:
        ConfigError: nothing was trained there, or the facts of its text are missing.
    """
    records = latest(read_records(out))
    compared = [r for r in records if r.cell.task.label != SCALED]
    board = build_leaderboard(at_best_rate(compared), CONTROLS, within_budget=True)
    rows, settings = {}, ""
    for task in board.tasks:
        mixed = json.loads(task.settings).get("softmax_layers", 0)
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


def _points(records: Sequence[Record]) -> dict[str, list[Point]]:
    """Scaled models by entry, among them those that the comparison had trained already."""
    scaled = [r.cell for r in records if r.cell.task.label == SCALED]
    arms = {(c.entry, c.task.settings["learning_rate"], c.task.seed) for c in scaled}
    sizes = [{c.task.settings[key] for c in scaled} for key in ("embed_dim", "num_steps")]
    found: dict[str, list[Point]] = {}
    for record in records:
        entry, work, result = record.cell.entry, record.cell.task.settings, record.result
        size = work["embed_dim"], work["num_steps"]
        is_scaled = (entry, work["learning_rate"], record.cell.task.seed) in arms
        if not is_scaled or work.get("softmax_layers") or not isinstance(result, Quality):
            continue
        if all(each in known for each, known in zip(size, sizes, strict=True)):
            count, steps = result.num_parameters, int(work["num_steps"])
            point = Point(num_parameters=count, num_steps=steps, loss=result.accuracy)
            found.setdefault(entry, []).append(point)
    return found


def _fit(found: Stored, name: str) -> tuple[PowerLaw | None, Prediction | None]:
    """The power law of all models except the predicted one, and the prediction if there is one."""
    said = next((p for p in found.predictions if p.attention == name), None)
    smaller = [p for p in found.points[name] if not (said and _is_predicted(p, said))]
    return power_law(smaller), said


def _is_predicted(point: Point, said: Prediction) -> bool:
    return (point.num_parameters, point.num_steps) == (said.num_parameters, said.num_steps)


# --- the page -------------------------------------------------------------------------------------


def write_page(store: Path, page: Path, command: str, tasks: Sequence[str] = ()) -> list[Path]:
    """Write the page of a store and its pictures; returns their paths. Nothing is trained.

    Raises:
        ConfigError: nothing was trained there, or a file cannot be written.
    """
    found = _read(store)
    return write_illustrated(page, charts(found), partial(document_of, found, command))


def document_of(found: Stored, command: str, figures: Sequence[Figure]) -> Document:
    """The page: the comparison, the pairs that can be told apart, and the scaling fits."""
    board = build_leaderboard(found.records, CONTROLS)
    facts = found.facts
    said = (
        f"Text: {facts.name}, {facts.num_bytes:,} bytes, SHA-256 {facts.sha256[:16]}..., "
        f"{facts.bytes_per_word:.2f} bytes a word in its unseen tenth."
    )
    blocks: list[Block] = [
        Text([origin(found.records, machine_words(board), board.commits)]),
        Command(command),
        Text([said]),
        Heading("Which differences can be told apart?"),
        Text([_pairs(found.rows)]),
        _comparison(found),
        Text([f"Settings: {found.settings}"]),
    ]
    if found.points:
        blocks += [Heading("Loss over width and budget"), Bullets([*_laws(found)]), _scaling(found)]
    how = Prose(prose(__file__, "how_to_read"))
    return Document("Language models of bytes", [*blocks, how, *figures])


def _pairs(rows: Mapping[str, Score]) -> str:
    ranked = {name: score.runs for name, score in rows.items() if score.may_be_ranked}
    signs = decided(ranked, less_is_better=True)
    apart = [f"{a} < {b}" if sign > 0 else f"{b} < {a}" for (a, b), sign in signs.items() if sign]
    told = f": {', '.join(apart)} (fewer bits are better)" if apart else ""
    return f"{len(apart)} of {len(signs)} pairs of rows that may be ranked are told apart{told}."


def _comparison(found: Stored) -> Table:
    per_word, rows = found.facts.bytes_per_word, list[dict[str, Value]]()
    for name, score in found.rows.items():
        mean = score.accuracy
        if mean is None:
            continue
        ends = score.shown_interval or ()
        rows.append(
            {
                "attention": name,
                "bits": Estimate(mean, *ends),
                "perplexity": Estimate(
                    2 ** (mean * per_word), *(2 ** (e * per_word) for e in ends)
                ),
                "seeds": len(score.accuracies),
                "rate": score.rate,
                "parameters": score.num_parameters,
                "marks": "; ".join(score.marks),
            }
        )
    columns = (
        words("attention"),
        Column("bits", "bits per byte", digits=".3f", better="lower"),
        Column("perplexity", "perplexity per word", digits=",.0f", better="lower"),
        Column("seeds", digits=".0f"),
        Column("rate", "learning rate", digits="g"),
        Column("parameters", digits=",.0f"),
        words("marks"),
    )
    return Table(columns=columns, rows=rows)


def _laws(found: Stored) -> Iterator[str]:
    for name in found.points:
        law, said = _fit(found, name)
        if law is None:
            yield f"{name}: too few models for a fit."
            continue
        _, width, steps = law.coefficients
        yield (
            f"{name}: L ~ parameters^{width:.3f} x updates^{steps:.3f}, residuals of "
            f"{100 * law.spread:.1f} % over {law.degrees + len(law.coefficients)} models."
        )
        if said is None:
            continue
        largest = next((p for p in found.points[name] if _is_predicted(p, said)), None)
        measured = "not trained yet"
        if largest:
            place = "inside" if said.low <= largest.loss <= said.high else "outside"
            measured = f"measured {largest.loss:.3f}, {place}"
        yield (
            f"{name}, {said.num_parameters:,} parameters and {said.num_steps:,} updates: predicted "
            f"{said.bits:.3f} ({said.low:.3f} to {said.high:.3f}) on {said.made_at[:10]}, "
            f"{measured}."
        )


def _scaling(found: Stored) -> Table:
    rows: list[dict[str, Value]] = []
    for name, points in found.points.items():
        law, _ = _fit(found, name)
        for point in sorted(points, key=lambda p: (p.num_parameters, p.num_steps)):
            fitted = law.predicted(point.num_parameters, point.num_steps)[0] if law else None
            sizes = {"parameters": point.num_parameters, "updates": point.num_steps}
            rows.append({"attention": name, **sizes, "bits": point.loss, "fitted": fitted})
    counts = [Column(key, digits=",.0f") for key in ("parameters", "updates")]
    bits = Column("bits", "bits per byte", digits=".3f", better="lower")
    return Table(columns=(words("attention"), *counts, bits, Column("fitted")), rows=rows)


def charts(found: Stored) -> Iterator[Chart]:
    """Loss against updates, a line for each row and number of parameters."""
    lines: dict[str, list[list[float]]] = {}
    for name, points in found.points.items():
        for point in sorted(points, key=lambda p: (p.num_parameters, p.num_steps)):
            line = lines.setdefault(f"{name}, {point.num_parameters:,} parameters", [])
            line.append([float(point.num_steps), point.loss])
    if lines:
        title = "Bits per byte of unseen text"
        yield chart_of(
            "text-scaling", Curves(title=title, x="updates", y="bits per byte", lines=lines)
        )
