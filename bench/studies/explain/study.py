"""The command: train or reload models, explain their answers, score the explanations, publish."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from bench.core.grouping import grouped
from bench.core.lines import Lines
from bench.core.numbers import Origin
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
from bench.studies.explain.methods import RANDOM
from bench.studies.explain.running import Explain, Scores, runs_of, scored
from bench.studies.explain.scores import NUM_SHARES, SCORES, over_images, over_models
from bench.studies.session import Session

PAGE, FILE = "explain.md", "explain.jsonl"
_YARDSTICK = "rollout"
_MODELS_APART = "(without the training of models that were stored already)"
_TITLES = {"mass": "mass on digit", "own": "own of both"}
_ROW = (words("attention"), words("explain"))

_IDENTITIES = {
    "after_prior": "half of the identity is added after attention was multiplied by the prior",
    "before_prior": "half of the identity is added first, and is multiplied by the prior too",
}


def study(asked: Explain, session: Session) -> None:
    """Explain each model, and publish the scores of those that there was time for."""
    runs, scores = runs_of(asked, session), list[Scores]()
    torch.set_num_threads(1)
    with session.each(runs, "model") as todo:
        for run in todo:
            scores += scored(run, asked, session)
    if scores:
        command = session.command("docs")
        notes = (_basis(scores), *session.notes)
        origin = Origin(command=command, settings=notes, machine=session.origin())
        session.say(f"wrote {_file(asked.out).write([origin, *scores])}")
        session.publish(_document(origin, scores, command), asked.docs / PAGE)


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
        Prose(_open(scores[0].identity)),
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


def _open(identity: str) -> str:
    (other,) = _IDENTITIES.keys() - {identity}
    return prose(__file__, "open", chosen=identity, words=_IDENTITIES[identity], other=other)


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
