"""Scores as tables of words, and as CSV with a row for each model and method."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from torch import Tensor

from bench.explain.config import ExplainConfig
from bench.explain.methods import RANDOM
from bench.explain.running import Row
from bench.explain.scores import SCORES, Estimate, over_images, over_models
from bench.publish.tables import Table

TITLES = {
    "pointing": "pointing ↑",
    "mass": "mass on digit ↑",
    "own": "own of both ↑",
    "insertion": "insertion ↑",
    "deletion": "deletion ↓",
}
_YARDSTICK = "rollout"


def tables(config: ExplainConfig, rows: Sequence[Row]) -> tuple[Table, ...]:
    """Scores of each entry and method over all of its seeds, and differences to plain rollout."""
    return tuple(table for table in (_scores(config, rows), _differences(config, rows)) if table)


def basis(config: ExplainConfig, rows: Sequence[Row]) -> str:
    """How many images and models stand behind a number, and what its interval is of."""
    seeds = sorted({row.seed for row in rows})
    named = ", ".join(map(str, seeds))
    return f"{config.num_images} test images, models of seed {named}. " + (
        "Intervals: 95 %, bootstrap over images; models of other seeds may differ by more."
        if len(seeds) == 1
        else f"Intervals: 95 %, Student's t over {len(seeds)} seeds."
    )


def by_method(
    config: ExplainConfig, rows: Sequence[Row]
) -> Iterator[tuple[str, dict[str, list[Row]]]]:
    """Each entry with the rows of each of its methods, in the order that was asked for."""
    for entry in config.attention:
        own = {
            method: [row for row in rows if (row.entry, row.method) == (entry.label, method)]
            for method in config.explain
        }
        if any(own.values()):
            yield entry.label, own


def csv_text(config: ExplainConfig, rows: Sequence[Row]) -> str:
    """A row for each model and method; its intervals are over images."""
    text = io.StringIO()
    names = ["attention", "explain", "seed", "num_images", "accuracy", "identity"]
    names += [f"{name}{end}" for name in SCORES for end in ("", "_low", "_high")]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        numbers: list[float | str] = []
        for name in SCORES:
            found = over_images(row.samples[name])
            numbers += ["", "", ""] if found is None else [found.mean, found.low, found.high]
        about = [row.entry, row.method, row.seed, config.num_images, row.accuracy]
        writer.writerow([*about, config.identity, *numbers])
    return text.getvalue()


def _scores(config: ExplainConfig, rows: Sequence[Row]) -> Table:
    shown, lines = _shown(rows), []
    for entry, methods in by_method(config, rows):
        for method, own in methods.items():
            accuracy = sum(row.accuracy for row in own) / len(own)
            values = [
                _words(over_models([row.samples[name] for row in own]), within=(0.0, 1.0))
                for name in shown
            ]
            lines.append((entry, method, f"{100 * accuracy:.1f}", *values))
    return Table(
        title="Scores",
        header=("attention", "explain", "accuracy %", *(TITLES[name] for name in shown)),
        rows=tuple(lines),
        num_text=2,
    )


def _differences(config: ExplainConfig, rows: Sequence[Row]) -> Table | None:
    """Of each method that is more than a floor; None where there is nothing to compare."""
    shown, lines = _shown(rows), []
    for entry, methods in by_method(config, rows):
        base = {row.seed: row for row in methods.get(_YARDSTICK, ())}
        for method, own in methods.items():
            if base and method not in (_YARDSTICK, RANDOM):
                values = [
                    _words(over_models(_minus(own, base, name)), digits="+.3f") for name in shown
                ]
                lines.append((entry, method, *values))
    if not lines:
        return None
    return Table(
        title=f"Differences to {_YARDSTICK} on the same models and images",
        header=("attention", "explain", *(TITLES[name] for name in shown)),
        rows=tuple(lines),
        num_text=2,
    )


def _minus(own: Sequence[Row], base: dict[int, Row], name: str) -> list[Tensor]:
    return [row.samples[name] - base[row.seed].samples[name] for row in own]


def _shown(rows: Sequence[Row]) -> list[str]:
    """With one digit no other is there to be told from."""
    return [name for name in SCORES if any(over_images(row.samples[name]) for row in rows)]


def _words(
    found: Estimate | None, digits: str = ".3f", within: tuple[float, float] = (-1.0, 1.0)
) -> str:
    """With an interval that holds no value which a score, or a difference of two, cannot have."""
    if found is None:
        return ""
    low, high = max(found.low, within[0]), min(found.high, within[1])
    return f"{found.mean:{digits}} ({low:{digits}} to {high:{digits}})"
