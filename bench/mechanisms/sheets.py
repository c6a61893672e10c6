"""The findings as tables of words, for the terminal and for the page alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bench.mechanisms.crossovers import Crossover
from bench.mechanisms.findings import Row
from bench.mechanisms.units import ONE_THREAD
from bench.statistics import Ratio

SLOWER, NOISY = " !", " ~"
"""Behind a ratio: the whole interval is above 1; other programs used the machine meanwhile."""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A title, a header and rows; the first column holds words, the others numbers."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def sheets_of(rows: Sequence[Row], crossovers: Sequence[Crossover]) -> tuple[Sheet, ...]:
    """All tables in the order of the page; those without rows are left out."""
    forms = [row for row in rows if not row.is_of_threads]
    threads = [row for row in rows if row.is_of_threads]
    sheets = [
        *_ratio_sheets(forms, "x other form", _ratio_and_marks),
        *_ratio_sheets(threads, f"x {ONE_THREAD}", _ratio_and_marks),
        *_ratio_sheets([r for r in rows if r.softmax_ratio], "x softmax", _softmax_words),
        *_floor_sheets(rows),
        _crossover_sheet(crossovers),
        _saved_sheet(rows),
    ]
    return tuple(sheet for sheet in sheets if sheet.rows)


def slower_sheet(rows: Sequence[Row]) -> Sheet:
    """Where our form is slower than the other, or with several threads than with one.

    By the whole interval.
    """
    found = [row for row in rows if row.is_slower]
    return Sheet(
        title=f"Slower than the other form, or than with {ONE_THREAD}",
        header=("entry / other", "N", "where", "x other"),
        rows=tuple(
            (_name(row), str(row.place.seq_len), _where(row), ratio_words(row.ratio))
            for row in found
        ),
    )


def ratio_words(ratio: Ratio | None) -> str:
    """Such as ``0.27 [0.25, 0.29]``; without the interval that too few rounds do not support."""
    if ratio is None:
        return ""
    if ratio.low is None or ratio.high is None:
        return f"{ratio.median:.3g}"
    return f"{ratio.median:.3g} [{ratio.low:.3g}, {ratio.high:.3g}]"


def _ratio_and_marks(row: Row) -> str:
    words = ratio_words(row.ratio)
    return words + (SLOWER if row.is_slower else "") + (NOISY if row.is_noisy else "")


def _softmax_words(row: Row) -> str:
    return ratio_words(row.softmax_ratio)


def _name(row: Row | Crossover) -> str:
    layer = " (layer)" if row.place.scope == "layer" else ""
    return f"{row.entry}{layer}{' causal' if row.place.causal else ''} / {row.against}"


def _where(row: Row) -> str:
    at = row.place
    return f"{at.mode}, {at.num_threads} thread{'s' if at.num_threads > 1 else ''}, {at.allocator}"


def _ratio_sheets(
    rows: Sequence[Row], quantity: str, words: Callable[[Row], str]
) -> Iterator[Sheet]:
    """One for each mode, number of threads and allocator; a column for each sequence length."""
    places = dict.fromkeys(
        (row.place.mode, row.place.num_threads, row.place.allocator, _where(row)) for row in rows
    )
    for mode, num_threads, allocator, where in sorted(places):
        here = [
            row
            for row in rows
            if (row.place.mode, row.place.num_threads, row.place.allocator)
            == (mode, num_threads, allocator)
        ]
        yield _by_length(f"{quantity}: {where} allocator", here, words)


def _floor_sheets(rows: Sequence[Row]) -> Iterator[Sheet]:
    calibrated = [r for r in rows if r.floor_fraction is not None]
    yield from _ratio_sheets(calibrated, "Per cent of the floor (by torch.mm)", _floor_words)


def _floor_words(row: Row) -> str:
    by_mm = row.floor_fraction_by_mm
    words = f"{100 * (row.floor_fraction or 0.0):.0f}"
    return words if by_mm is None else f"{words} ({100 * by_mm:.0f})"


def _saved_sheet(rows: Sequence[Row]) -> Sheet:
    # The same for all threads and allocators, so any of them will do.
    once = {(_name(row), row.place.seq_len): row for row in rows if row.saved_bytes_per_token}
    return _by_length("Bytes kept for backward, per token", list(once.values()), _saved_words)


def _saved_words(row: Row) -> str:
    return f"{row.saved_bytes_per_token:.0f}"


def _by_length(title: str, rows: Sequence[Row], words: Callable[[Row], str]) -> Sheet:
    lengths = sorted({row.place.seq_len for row in rows})
    found: dict[str, dict[int, str]] = {}
    for row in rows:
        found.setdefault(_name(row), {})[row.place.seq_len] = words(row)
    return Sheet(
        title=title,
        header=("entry / other", *(f"N={length}" for length in lengths)),
        rows=tuple(
            (name, *(cells.get(length, "") for length in lengths)) for name, cells in found.items()
        ),
    )


def _crossover_sheet(crossovers: Sequence[Crossover]) -> Sheet:
    places: dict[tuple[Any, ...], str] = {}
    found: dict[str, dict[tuple[Any, ...], str]] = {}
    for one in crossovers:
        key = (one.place.num_threads, one.place.allocator)
        threads = f"{key[0]} thread{'s' if key[0] > 1 else ''}"
        places[key] = f"{threads}, {key[1]}"
        found.setdefault(_name(one), {})[key] = f"{_tokens(one.ours)} ({_tokens(one.other)})"
    keys = sorted(places)
    return Sheet(
        title="Tokens from which on it is faster than softmax, forward: ours (other form)",
        header=("entry / other form", *(places[key] for key in keys)),
        rows=tuple((name, *(cells.get(key, "") for key in keys)) for name, cells in found.items()),
    )


def _tokens(found: float | None) -> str:
    return "none" if found is None else f"{found:.0f}"
