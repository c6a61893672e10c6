"""The command: train or reload models, explain their answers, score the explanations, publish."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from bench.publishing.charts.plain import Curves, chart_of
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

PAGE, CSV = "explain.md", "explain.csv"
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
        blocks: list[Block] = [
            Prose(f"{escape(session.origin())} {_MODELS_APART}, by"),
            Command(session.command("docs")),
            Text([_basis(asked, scores)], session.notes),
            *_tables(asked, scores),
            *_charts(asked, scores),
            Heading("How to read this"),
            Prose(prose(__file__, "how_to_read", num_shares=NUM_SHARES)),
            Heading("What the papers leave open, and our reading"),
            Prose(_open(asked.identity)),
        ]
        session.publish(Document("Explanations, scored", blocks), asked.docs / PAGE)
        session.write(Document("", [_models(asked, scores)]), asked.out / CSV)


def _basis(asked: Explain, scores: Sequence[Scores]) -> str:
    """Sentences on the images and models behind each number, and on its interval."""
    seeds = sorted({one.seed for one in scores})
    named = ", ".join(map(str, seeds))
    of_images = "bootstrap over images; models of other seeds may differ by more."
    sizes = {entry: len(own) for entry, _, own in _groups(asked, scores)}
    counts = {*sizes.values()}
    if len(counts) > 1:  # a model diverged, or the study was stopped
        each = ", ".join(f"{count} of {entry}" for entry, count in sizes.items())
        interval = f"Student's t over the models of a row ({each})"
        interval += f"; for one model alone, {of_images}" if 1 in counts else "."
    else:
        interval = of_images if counts == {1} else f"Student's t over {max(counts)} seeds."
    return f"{asked.num_images} test images, models of seed {named}. Intervals: 95 %, {interval}"


def _open(identity: str) -> str:
    (other,) = _IDENTITIES.keys() - {identity}
    return prose(__file__, "open", chosen=identity, words=_IDENTITIES[identity], other=other)


def _groups(asked: Explain, scores: Sequence[Scores]) -> Iterator[tuple[str, str, list[Scores]]]:
    """Scores of each entry and method over all seeds, in the order of the settings."""
    for entry in asked.attention:
        for method in asked.explain:
            if own := [s for s in scores if (s.entry, s.method) == (entry.label, method)]:
                yield entry.label, method, own


def _tables(asked: Explain, scores: Sequence[Scores]) -> Iterator[Table]:
    """Means over models, and differences to plain rollout on the same models."""
    # With a single digit, the score `own` has no values.
    shown = [name for name in SCORES if any(over_images(s.samples[name]) for s in scores)]
    base = {(s.entry, s.seed): s.samples for s in scores if s.method == _YARDSTICK}
    means, differences = list[Row](), list[Row]()
    for entry, method, own in _groups(asked, scores):
        row = {"attention": entry, "explain": method}
        found = {name: over_models([s.samples[name] for s in own]) for name in shown}
        means.append({**row, "accuracy": sum(s.accuracy for s in own) / len(own), **found})
        if base and method not in (_YARDSTICK, RANDOM):
            pairs = [(s.samples, base[entry, s.seed]) for s in own]
            minus = {name: over_models([a[name] - b[name] for a, b in pairs]) for name in shown}
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


def _models(asked: Explain, scores: Sequence[Scores]) -> Table:
    """A row for each model and method; its intervals are over images."""
    rows: list[Row] = [
        {
            "attention": s.entry,
            "explain": s.method,
            "seed": s.seed,
            "num_images": asked.num_images,
            "accuracy": s.accuracy,
            "identity": asked.identity,
            **{name: over_images(s.samples[name]) for name in SCORES},
        }
        for s in scores
    ]
    return Table(columns=[Column(key, has_interval=key in SCORES) for key in rows[0]], rows=rows)


def _charts(asked: Explain, scores: Sequence[Scores]) -> Iterator[Chart]:
    """The curves whose area is the insertion score, a chart for each entry."""
    lines: dict[str, dict[str, list[list[float]]]] = {}
    for entry, method, own in _groups(asked, scores):
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
