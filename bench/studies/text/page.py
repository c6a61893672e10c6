"""The page of language models: rows of the comparison, pairs told apart, and scaling fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench.core.observed import CONTROLS
from bench.publishing.accuracy import origin
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
from bench.studies.text.stored import Stored, fit, read_stored


def write_page(store: Path, page: Path, command: str, tasks: Sequence[str] = ()) -> list[Path]:
    """Write the page of a store and its pictures; returns their paths. Nothing is trained.

    Raises:
        ConfigError: nothing was trained there, or a file cannot be written.
    """
    return write_illustrated(document_of(read_stored(store), command), page)


def document_of(found: Stored, command: str) -> Document:
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
    return Table(columns=columns, rows=rows)


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
        _, width, steps = law.coefficients
        yield (
            f"{name}: L ~ parameters^{width:.3f} x updates^{steps:.3f}, residuals of "
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
            f"{measured}."
        )


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
