"""The page of language models: rows of the comparison, pairs told apart, and scaling fits."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench.core.format import join_names
from bench.core.observed import CONTROLS
from bench.core.record import Quality
from bench.publishing.accuracy import head_norm_words, origin
from bench.publishing.charts.plain import Curves, chart_of
from bench.publishing.charts.write import write_illustrated
from bench.publishing.document import (
    Block,
    Bullets,
    Chart,
    Column,
    Command,
    Document,
    Estimate,
    Heading,
    Prose,
    Table,
    Text,
    Value,
    words,
)
from bench.publishing.leaderboard import build_leaderboard
from bench.publishing.metrics.ranks import decided
from bench.publishing.scores import Score
from bench.publishing.tables import machine_words
from bench.publishing.templates import prose
from bench.studies.text.scaling import Point, smaller, without_largest
from bench.studies.text.stored import Prediction, Stored, fit, read_stored


def write_page(store: Path, page: Path, command: str, tasks: Sequence[str] = ()) -> list[Path]:
    """Write the page of a store and its pictures; returns their paths. Nothing is trained.

    Raises:
        ConfigError: nothing was trained there, or a file cannot be written.
    """
    return write_illustrated(document_of(read_stored(store), command), page)


def document_of(found: Stored, command: str) -> Document:
    """The page: the comparison, the pairs that can be told apart, and the scaling fits."""
    board = build_leaderboard(found.records, CONTROLS)
    facts, settings = found.facts, json.loads(found.settings or "{}")
    said = (
        f"Text: {facts.name}, {facts.num_bytes:,} bytes, SHA-256 {facts.sha256[:16]}..., "
        f"{facts.bytes_per_word:.2f} bytes a word in its unseen tenth."
    )
    blocks: list[Block] = [
        Text([origin(found.records, machine_words(board), board.commits)]),
        Command(command),
        Text([said]),
        Heading("Which differences can be told apart?"),
        Text([_pairs(found.rows), *_last_doubling(found), *head_norm_words(settings)]),
        _comparison(found),
        Text([f"Settings: {found.settings}"]),
    ]
    if found.points:
        blocks += [Heading("Loss over width and budget"), Bullets([*_laws(found)]), _scaling(found)]
        if (held_out := _held_out(found)).rows:
            blocks.append(held_out)
    how = Prose(prose(__file__, "how_to_read"))
    return Document("Language models of bytes", [*blocks, how, *charts(found)])


def _pairs(rows: Mapping[str, Score]) -> str:
    ranked = {
        name: score.runs
        for name, score in rows.items()
        if score.may_be_ranked and not score.is_control
    }
    signs = decided(ranked, less_is_better=True)
    apart = [f"{a} < {b}" if sign > 0 else f"{b} < {a}" for (a, b), sign in signs.items() if sign]
    told = f": {', '.join(apart)} (fewer bits are better)" if apart else ""
    return f"{len(apart)} of {len(signs)} pairs of rows that may be ranked are told apart{told}."


def _last_doubling(found: Stored) -> Iterator[str]:
    """Bits per byte that the last doubling of the updates brought to the scaled models."""
    steps = max((point.num_steps for own in found.points.values() for point in own), default=0)
    gains = [
        other.loss - one.loss
        for own in found.points.values()
        for one in own
        for other in own
        if one.num_steps == steps == 2 * other.num_steps
        and one.num_parameters == other.num_parameters
    ]
    if gains:
        span = f"{min(gains):.2f} to {max(gains):.2f} bits"
        yield f"{steps:,} updates are few: doubling them from {steps // 2:,} brought {span} a byte."


def _comparison(found: Stored) -> Table:
    per_word, rows = found.facts.bytes_per_word, list[dict[str, Value]]()
    for name, bits in _controls(found).items():
        mean = Estimate(bits)
        own = {"bits": mean, "perplexity": _perplexity(per_word, bits), "marks": "control"}
        rows.append({"attention": name, **own})
    for name, score in found.rows.items():
        mean = score.accuracy
        if mean is None:
            continue
        ends = score.shown_interval or ()
        rows.append(
            {
                "attention": name,
                "bits": Estimate(mean, *ends),
                "perplexity": _perplexity(per_word, mean, *ends),
                "seeds": len(score.accuracies),
                "rate": score.rate,
                "parameters": score.num_parameters,
                "marks": "; ".join(score.marks),
            }
        )
    columns = (
        words("attention"),
        Column("bits", "bits per byte", digits=".3f", better="lower"),
        Column("perplexity", "perplexity per word", digits=_whole, better="lower"),
        Column("seeds", digits=".0f"),
        Column("rate", "learning rate", digits="g"),
        Column("parameters", digits=",.0f"),
        words("marks"),
    )
    by_bits = lambda row: row["bits"][0] if isinstance(row["bits"], Estimate) else 0.0  # noqa: E731
    return Table(columns=columns, rows=sorted(rows, key=by_bits))


def _controls(found: Stored) -> dict[str, float]:
    """Bits per byte without a model, by what predicts, such as gzip."""
    results = (record.result for score in found.rows.values() for record in score.records)
    known = [result for result in results if isinstance(result, Quality)]
    return {
        name: bits
        for result in known
        for name, bits in {result.guess: result.chance, **result.plateaus}.items()
    }


def _whole(value: float) -> str:
    """Whole numbers, or three digits and a power of ten where more would be noise."""
    return f"{value:,.0f}" if value < 1e6 else f"{value:.2e}"


def _perplexity(per_word: float, *bits: float) -> Estimate | None:
    """Perplexity per word; None if it is no float, as of a text that hardly has a space."""
    try:
        return Estimate(*(2 ** (each * per_word) for each in bits))
    except OverflowError:
        return None


def _laws(found: Stored) -> Iterator[str]:
    for name in found.points:
        law, said = fit(found, name)
        if law is None:
            yield f"{name}: too few models for a fit."
            continue
        width, steps = ("{:.3f} ({:.3f} to {:.3f})".format(*each) for each in law.exponents)
        yield (
            f"{name}: L ~ parameters^{width} x updates^{steps}, residuals of "
            f"{100 * law.spread:.1f} % over {law.degrees + len(law.coefficients)} models."
        )
        if said is None:
            continue
        largest = next((p for p in found.points[name] if p.size == said.size), None)
        measured = "not trained yet"
        if largest:
            place = "inside" if said.low <= largest.loss <= said.high else "outside"
            measured = f"measured {largest.loss:.3f}, {place}"
        yield (
            f"{name}, {said.num_parameters:,} parameters and {said.num_steps:,} updates: predicted "
            f"{said.bits:.3f} ({said.low:.3f} to {said.high:.3f}) on {said.made_at[:10]}, "
            f"{measured}.{_without_law(found.points[name], said)}"
        )


def _without_law(points: Sequence[Point], said: Prediction) -> str:
    """The rule beside a prediction, and whether its interval could have failed."""
    if (nearest := smaller(points, said.size)) is None:
        return ""
    losses = {
        f"its loss after {nearest.updates.num_steps:,} updates": nearest.updates.loss,
        f"that of {nearest.parameters.num_parameters:,} parameters": nearest.parameters.loss,
    }
    told = {name: f"{name} ({loss:.3f})" for name, loss in losses.items()}
    inside = [told[name] for name, loss in losses.items() if said.low <= loss <= said.high]
    words = f" A rule without a law (see below) gives {nearest.predicted:.3f}."
    if not inside:
        return f"{words} Outside lie {join_names([*told.values()])}: it could have failed."
    failed = "it could not fail" if len(inside) == len(told) else "it could hardly fail"
    return f"{words} The interval also holds {join_names(inside)}: {failed}."


def _scaling(found: Stored) -> Table:
    rows: list[dict[str, Value]] = []
    for name, points in found.points.items():
        law, _ = fit(found, name)
        for point in sorted(points, key=lambda p: p.size):
            fitted = law.predicted(*point.size)[0] if law else None
            sizes = {"parameters": point.num_parameters, "updates": point.num_steps}
            rows.append({"attention": name, **sizes, "bits": point.loss, "fitted": fitted})
    counts = [Column(key, digits=",.0f") for key in ("parameters", "updates")]
    bits = Column("bits", "bits per byte", digits=".3f", better="lower")
    return Table(columns=(words("attention"), *counts, bits, Column("fitted")), rows=rows)


def _held_out(found: Stored) -> Table:
    """The models of the largest width, as predicted by a fit of the others alone."""
    rows: list[dict[str, Value]] = []
    for name, points in found.points.items():
        law, held_out = without_largest(points)
        for point in held_out if law else ():
            assert law is not None
            nearest = [p.loss for p in points if p.num_steps == point.num_steps and p is not point]
            sizes = {"parameters": point.num_parameters, "updates": point.num_steps}
            predicted, low, high = law.predicted(*point.size)
            told = "inside" if low <= point.loss <= high else "outside"
            if told == "inside" and low <= min(nearest, default=0.0) <= high:
                told = "inside, as the smaller one: could not fail"
            more = {"predicted": Estimate(predicted, low, high), "told": told}
            more["smaller"] = min(nearest, default=None)
            rows.append({"attention": name, **sizes, "bits": point.loss, **more})
    return Table(
        title="The largest width held out of the fit",
        columns=(
            words("attention"),
            *(Column(key, digits=",.0f") for key in ("parameters", "updates")),
            Column("bits", "bits per byte", better="lower"),
            Column("predicted"),
            Column("smaller", "best smaller model"),
            words("told", "within the interval"),
        ),
        rows=rows,
    )


def charts(found: Stored) -> Iterator[Chart]:
    """Loss against updates, a line for each row and number of parameters."""
    lines: dict[str, list[list[float]]] = {}
    for name, points in found.points.items():
        for point in sorted(points, key=lambda p: p.size):
            line = lines.setdefault(f"{name}, {point.num_parameters:,} parameters", [])
            line.append([float(point.num_steps), point.loss])
    if lines:
        title = "Bits per byte of unseen text"
        yield chart_of(
            "text-scaling", Curves(title=title, x="updates", y="bits per byte", lines=lines)
        )
