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
from bench.studies.text.scaling import Point, law_without_widest, smaller
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
    per_word, rows = found.facts.bytes_per_word, list[tuple[float, dict[str, Value]]]()
    for name, bits in _controls(found).items():
        own = {"bits": Estimate(bits), "perplexity": _perplexity(per_word, bits)}
        rows.append((bits, {"attention": name, **own, "marks": "control"}))
    for name, score in found.rows.items():
        mean = score.accuracy
        if mean is None:
            continue
        ends = score.shown_interval or ()
        row: dict[str, Value] = {
            "attention": name,
            "bits": Estimate(mean, *ends),
            "perplexity": _perplexity(per_word, mean, *ends),
            "seeds": len(score.accuracies),
            "rate": score.rate,
            "parameters": score.num_parameters,
            "marks": "; ".join(score.marks),
        }
        rows.append((mean, row))
    columns = (
        words("attention"),
        Column("bits", "bits per byte", digits=".3f", better="lower"),
        Column("perplexity", "perplexity per word", digits=_whole, better="lower"),
        Column("seeds", digits=".0f"),
        Column("rate", "learning rate", digits="g"),
        Column("parameters", digits=",.0f"),
        words("marks"),
    )
    return Table(columns=columns, rows=[row for _, row in sorted(rows, key=lambda each: each[0])])


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
    found = [smaller(points, said.size, axes) for axes in ((1,), (0,), (0, 1))]
    if None in found:
        return ""
    shorter, narrower, both = (point for point in found if point)
    told = {
        f"its loss after {shorter.num_steps:,} updates ({shorter.loss:.3f})": shorter.loss,
        f"that of {narrower.num_parameters:,} parameters ({narrower.loss:.3f})": narrower.loss,
    }
    inside = [name for name, loss in told.items() if said.low <= loss <= said.high]
    rule = shorter.loss * narrower.loss / both.loss
    words = f" A rule without a law (see below) gives {rule:.3f}."
    if not inside:
        return f"{words} Outside lie {join_names([*told])}: it could have failed."
    failed = "it could not fail" if len(inside) == len(told) else "it could hardly fail"
    return f"{words} The interval also holds {join_names(inside)}: {failed}."


def _scaling(found: Stored) -> Table:
    """Every scaled model, and those of the largest width by a fit of the others alone."""
    rows: list[dict[str, Value]] = []
    for name, points in found.points.items():
        law, _ = fit(found, name)
        narrow, widest = law_without_widest(points)
        for point in sorted(points, key=lambda p: p.size):
            fitted = law.predicted(*point.size)[0] if law else None
            sizes = {"parameters": point.num_parameters, "updates": point.num_steps}
            row: dict[str, Value] = {"bits": point.loss, "fitted": fitted}
            if narrow and point in widest:
                _, low, high = predicted = narrow.predicted(*point.size)
                row["held out"] = Estimate(*predicted)
                row["place"] = "inside" if low <= point.loss <= high else "outside"
                below = smaller(points, point.size, axes=(0,))
                if row["place"] == "inside" and below and low <= below.loss <= high:
                    row["place"] = "inside, as the next smaller"
            rows.append({"attention": name, **sizes, **row})
    counts = [Column(key, digits=",.0f") for key in ("parameters", "updates")]
    bits = Column("bits", "bits per byte", digits=".3f", better="lower")
    columns = [words("attention"), *counts, bits, Column("fitted")]
    if any("place" in row for row in rows):
        columns += [Column("held out", "largest width held out"), words("place", "measured")]
    return Table(columns=columns, rows=rows)


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
