"""Train models, or reload them, explain their answers, score the explanations, and publish."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import torch
from torch import Tensor

from attentions import AttentionLayer, attention_class
from bench.core.cell import Cell
from bench.core.cli.errors import ConfigError
from bench.core.grouping import grouped
from bench.core.lines import Lines
from bench.core.numbers import Origin
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
from bench.publishing.charts.plain import Curves, chart_of
from bench.publishing.charts.write import write_illustrated
from bench.publishing.document import (
    Block,
    Chart,
    Column,
    Command,
    Document,
    Heading,
    Prose,
    Row,
    Table,
    Text,
    escape,
    words,
)
from bench.publishing.templates import prose
from bench.studies.explain.methods import (
    NAMES,
    NUM_SHARES,
    RANDOM,
    SCORES,
    Identity,
    Scores,
    curves,
    layers_for,
    located,
    over_images,
    over_models,
    relevance,
)
from bench.studies.session import Session

PAGE, FILE = "explain.md", "explain.jsonl"
_YARDSTICK = "rollout"
_MODELS_APART = "(without the training of models that were stored already)"
_TITLES = {"mass": "mass on digit", "own": "own of both"}
_ROW = (words("attention"), words("explain"))
_CHUNK = 64  # images that are explained at once
_INSERTED = "inserted"
_STEP_S, _IMAGE_S = 0.05, 0.01  # guesses; the progress bar corrects them by how they turn out

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


def study(asked: Explain, session: Session) -> None:
    """Explain each model, and publish the scores of those that there was time for."""
    runs, scores = runs_of(asked, session), list[Scores]()
    torch.set_num_threads(1)
    with session.each(runs, "model") as todo:
        for run in todo:
            try:
                with code_of(run.cell.mechanism):
                    scores += scored(run, asked, session)
            except (Diverged, PluginFailed) as error:
                session.note(f"{run.describe()} is left out: {error}.")
    if scores:
        command = session.command("docs")
        notes = (_basis(scores), *session.notes)
        origin = Origin(command=command, settings=notes, machine=session.origin())
        session.say(f"wrote {_file(asked.out).write([origin, *scores])}")
        session.publish(_document(origin, scores, command), asked.docs / PAGE)


def runs_of(asked: Explain, session: Session) -> list[Run]:
    """The models to train; a note for each entry that cannot be explained.

    Raises:
        ConfigError: wrong settings of the task, or nothing is left to explain.
    """
    canvas = {"canvas": {"task": "canvas", **asked.canvas}}
    config = training_config(
        session.composed["attention"], canvas, asked.out,
        seed=asked.seed, plugins=asked.plugins, device="cpu",
    )  # fmt: skip
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

    Raises:
        Diverged: training left the finite numbers.
    """
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
            # More digits than thousands of images can tell.
            inserted=tuple(round(x, 5) for x in joined[method, _INSERTED].mean(dim=0).tolist()),
        )
        for method in asked.explain
    ]


def _stored(samples: Tensor) -> tuple[float | None, ...]:
    return tuple(None if math.isnan(x) else round(x, 5) for x in samples.tolist())


def _of_images(
    model: Backbone, task: Canvas, some: Canvases, asked: Explain, stream: torch.Generator
) -> dict[tuple[str, str], Tensor]:
    """Scores of each image by method and score, (B,) each; (B, NUM_SHARES) for `_INSERTED`.

    The class token is left out, since it is not a place on the canvas.
    """
    first = int(task.class_token)
    blank = 2 * noise(tuple(some.batch.inputs.shape), stream) - 1
    blank[:, :first] = some.batch.inputs[:, :first]
    any_ = some.masks.any(dim=1)[:, first:]
    found: dict[tuple[str, str], list[Tensor]] = {}
    for digit in range(task.num_digits):
        own, classes = some.masks[:, digit, first:], some.classes[:, digit]
        layers = layers_for(model, some.batch, classes)
        for method in asked.explain:
            map_ = relevance(
                method, layers, asked.identity, class_token=task.class_token, stream=stream
            )
            scores = dict(located(map_[:, first:], own, any_))
            ordered = map_.clone()
            ordered[:, :first] = -torch.inf
            shown = curves(model, some.batch, classes, ordered, blank)
            scores |= {name: points.mean(dim=1) for name, points in shown.items()}
            for name, value in (scores | {_INSERTED: shown["insertion"]}).items():
                found.setdefault((method, name), []).append(value)
    return {key: torch.stack(values).mean(dim=0) for key, values in found.items()}


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
    return cast(Canvas, build_task("canvas", dict(settings)))


# --- the page ------------------------------------------------------------------------------------


def write_page(store: Path, page: Path, command: str, tasks: Sequence[str] = ()) -> list[Path]:
    """Write the page of stored scores and its pictures; returns their paths.

    Raises:
        ConfigError: there are no scores, or a file cannot be written.
    """
    origin, *scores = _file(store).read()
    assert isinstance(origin, Origin)
    found = [one for one in scores if isinstance(one, Scores)]
    return write_illustrated(_document(origin, found, command), page)


def _file(store: Path) -> Lines[Origin | Scores]:
    return Lines(store / FILE, Origin | Scores)


def _document(origin: Origin, scores: Sequence[Scores], command: str) -> Document:
    blocks: list[Block] = [
        Prose(f"{escape(origin.machine)} {_MODELS_APART}, by"),
        Command(command),
        Text(origin.settings),
        *_tables(scores),
        *_charts(scores),
        Heading("How to read this"),
        Prose(prose(__file__, "how_to_read", num_shares=NUM_SHARES)),
        Heading("What the papers leave open, and our reading"),
        Prose(prose(__file__, "open", chosen=scores[0].identity)),
    ]
    return Document("Explanations, scored", blocks)


def _basis(scores: Sequence[Scores]) -> str:
    """Sentences on the images and models behind each number, and on its interval."""
    seeds = sorted({one.seed for one in scores})
    named = ", ".join(map(str, seeds))
    of_images = "bootstrap over images; models of other seeds may differ by more."
    sizes = {entry: len(own) for entry, _, own in _groups(scores)}
    counts = {*sizes.values()}
    if len(counts) > 1:  # a model diverged, or the study was stopped
        each = ", ".join(f"{count} of {entry}" for entry, count in sizes.items())
        interval = f"Student's t over the models of a row ({each})"
        interval += f"; for one model alone, {of_images}" if 1 in counts else "."
    else:
        interval = of_images if counts == {1} else f"Student's t over {max(counts)} seeds."
    num_images = len(scores[0].samples[SCORES[0]])
    return f"{num_images} test images, models of seed {named}. Intervals: 95 %, {interval}"


def _groups(scores: Sequence[Scores]) -> Iterator[tuple[str, str, list[Scores]]]:
    """Scores of each entry and method over all seeds, in the order of the settings."""
    for entry, own in grouped(scores, lambda one: one.entry).items():
        for method, alike in grouped(own, lambda one: one.method).items():
            yield entry, method, alike


def _tables(scores: Sequence[Scores]) -> Iterator[Table]:
    """Means over models, and differences to plain rollout on the same models."""
    # With a single digit, the score `own` has no values.
    shown = [name for name in SCORES if any(over_images(s.of_images(name)) for s in scores)]
    base = {(s.entry, s.seed): s for s in scores if s.method == _YARDSTICK}
    means, differences = list[Row](), list[Row]()
    for entry, method, own in _groups(scores):
        row = {"attention": entry, "explain": method}
        found = {name: over_models([s.of_images(name) for s in own]) for name in shown}
        means.append({**row, "accuracy": sum(s.accuracy for s in own) / len(own), **found})
        if base and method not in (_YARDSTICK, RANDOM):
            pairs = [(s, base[entry, s.seed]) for s in own]
            minus = {
                name: over_models([a.of_images(name) - b.of_images(name) for a, b in pairs])
                for name in shown
            }
            differences.append({**row, **minus})
    accuracy = Column("accuracy", unit="%", factor=0.01, digits=".1f")
    columns = (*_ROW, accuracy, *_columns(shown, ".3f", low=0.0))
    yield Table(title="Scores", columns=columns, rows=means)
    if differences:
        title = f"Differences to {_YARDSTICK} on the same models and images"
        yield Table(
            title=title, columns=(*_ROW, *_columns(shown, "+.3f", low=-1.0)), rows=differences
        )


def _columns(shown: Sequence[str], digits: str, low: float) -> list[Column]:
    return [
        Column(
            name,
            _TITLES.get(name, name),
            digits=digits,
            better="lower" if name == "deletion" else "higher",
            within=(low, 1.0),
        )
        for name in shown
    ]


def _charts(scores: Sequence[Scores]) -> Iterator[Chart]:
    """The curves whose area is the insertion score, a chart for each entry."""
    lines: dict[str, dict[str, list[list[float]]]] = {}
    for entry, method, own in _groups(scores):
        points = zip(*(s.inserted for s in own), strict=True)
        lines.setdefault(entry, {})[method] = [
            [step / (NUM_SHARES - 1), sum(ys) / len(ys)] for step, ys in enumerate(points)
        ]
    for entry, own_lines in lines.items():
        curves = Curves(
            title=f"Insertion of patches: {entry}",
            x="share of patches shown, most relevant first",
            y="probability of the class that is explained",
            lines=own_lines,
            is_log=False,
        )
        yield chart_of(f"insertion-{entry}", curves)
