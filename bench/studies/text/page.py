"""The page of language models: rows of the comparison, pairs told apart, and scaling fits.

A power law of loss over parameters and updates predicts the loss of the largest model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.core.cli.limits import Amount, Count, Name, Number, Size
from bench.core.cli.limits import Text as Word
from bench.core.format import join_names
from bench.core.observed import CONTROLS
from bench.core.record import Quality, Record
from bench.publishing.accuracy import head_norm_words, origin
from bench.publishing.charts.plain import Curves, chart_of
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


@dataclass(frozen=True, kw_only=True)
class Point:
    """One trained model: parameters, updates, and bits per byte of unseen text."""

    num_parameters: int
    num_steps: int
    loss: float

    @property
    def size(self) -> tuple[int, int]:
        """Parameters and updates."""
        return self.num_parameters, self.num_steps


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """log L = a + b log N + c log D, least squares, without a floor.

    L is the loss in bits per byte, N the number of parameters, D the number of updates.

    Attributes:
        coefficients: a, b, c.
        spread: standard deviation of the residuals of log L.
        inverse: (X^T X)^-1 of the fit, (3, 3).
        degrees: degrees of freedom, points minus coefficients.
    """

    coefficients: npt.NDArray[np.float64]
    spread: float
    inverse: npt.NDArray[np.float64]
    degrees: int

    @property
    def exponents(self) -> Iterator[tuple[float, float, float]]:
        """Exponents of parameters and of updates, each with the ends of its 95 % interval."""
        for i in (1, 2):
            value, half = float(self.coefficients[i]), self._half(math.sqrt(self.inverse[i, i]))
            yield value, value - half, value + half

    def _half(self, error: float) -> float:
        """Half of a 95 % interval, by a standard error in units of `spread`."""
        from scipy import special

        return float(special.stdtrit(self.degrees, 0.975)) * self.spread * error

    def predicted(self, num_parameters: int, num_steps: int) -> tuple[float, float, float]:
        """Predicted loss of a model, and the ends of its 95 % prediction interval."""
        x = np.array([1.0, math.log(num_parameters), math.log(num_steps)])
        centre = float(x @ self.coefficients)
        half = self._half(math.sqrt(1 + float(x @ self.inverse @ x)))
        return math.exp(centre), math.exp(centre - half), math.exp(centre + half)


def power_law(points: Sequence[Point]) -> PowerLaw | None:
    """Fit a power law; None with too few points, or if the two sizes do not vary independently."""
    x = np.array([[1.0, math.log(p.num_parameters), math.log(p.num_steps)] for p in points])
    degrees = len(points) - 3
    if degrees < 1 or np.linalg.matrix_rank(x) < 3:
        return None
    y = np.log([p.loss for p in points])
    found, *_ = np.linalg.lstsq(x, y, rcond=None)
    residuals = y - x @ found
    return PowerLaw(
        coefficients=found,
        spread=math.sqrt(float(residuals @ residuals) / degrees),
        inverse=np.linalg.inv(x.T @ x),
        degrees=degrees,
    )


def smaller(points: Sequence[Point], size: tuple[int, int], axes: Sequence[int]) -> Point | None:
    """The next smaller model on some axes, 0 for parameters and 1 for updates, equal on others."""
    wanted = list(size)
    for axis in axes:
        wanted[axis] = max((p.size[axis] for p in points if p.size[axis] < size[axis]), default=0)
    return next((point for point in points if [*point.size] == wanted), None)


def law_without_widest(points: Sequence[Point]) -> tuple[PowerLaw | None, list[Point]]:
    """The law of all models but those with the most parameters, and these."""
    most = max((point.num_parameters for point in points), default=0)
    rest = [point for point in points if point.num_parameters < most]
    return power_law(rest) if rest else None, [p for p in points if p.num_parameters == most]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A text: its name, size and hash, and the bytes per word of its unseen part."""

    name: Word
    num_bytes: Count
    sha256: Word
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
    made_at: Word

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


def fit(found: Stored, name: str) -> tuple[PowerLaw | None, Prediction | None]:
    """The power law of all models except the predicted one, and the newest prediction.

    A prediction for a number of parameters that no model here has is of other settings.
    """
    points = found.points[name]
    counts = {point.num_parameters for point in points}
    own = [p for p in found.predictions if p.attention == name and p.num_parameters in counts]
    said = own[-1] if own else None
    return power_law([p for p in points if not said or p.size != said.size]), said


# --- the page ------------------------------------------------------------------------------------


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
    """Perplexity per word; None if it is not a float, as of a text that hardly has a space."""
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
            f"{measured}.{rule_beside(found.points[name], said)}"
        )


def rule_beside(points: Sequence[Point], said: Prediction) -> str:
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
