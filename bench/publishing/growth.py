"""How rows grow with the sequence length, and gain from threads.

Where they overtake the reference, how time scales, and each entry beside itself with fewer threads.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import groupby

from bench.core.format import Column, bracketed, column_for, quantity, ratio_words
from bench.core.record import Record, Speed
from bench.publishing.document import Table, text_table
from bench.publishing.leaderboard import Leaderboard, Ranking, Setting
from bench.publishing.metrics.crossover import Crossover, crossover, crossover_words, flops_words
from bench.publishing.metrics.marks import marks
from bench.publishing.metrics.scaling import Scaling, scaling
from bench.publishing.metrics.speedup import ratio_between
from bench.publishing.tables import Section, setting_words, with_marks

Series = dict[str, dict[int, Record]]
"""Records with a number, by the row's name and their sequence length."""

PREDICTED = 4
"""Times are predicted at this multiple of the longest measured length."""

MAX_MISFIT = 0.2
"""Largest error of a fit at a measured length, relative to the time, that still predicts."""


# The HTML page, the Markdown page and the charts use the same board one after the other.
_of_one_board = lru_cache(maxsize=1)


@_of_one_board
def crossovers(board: Leaderboard) -> dict[Setting, dict[str, Crossover]]:
    """Where rows overtake their references, in settings of three lengths or more."""
    return {setting: _crossovers(rows) for setting, rows in series(board).items()}


def _crossovers(of_setting: Series) -> dict[str, Crossover]:
    by_key = {
        record.cell.key: record for records in of_setting.values() for record in records.values()
    }
    return {
        name: found
        for name, records in of_setting.items()
        if (found := crossover(records, _references(records, by_key)))
    }


@_of_one_board
def scalings(board: Leaderboard) -> dict[Setting, dict[str, Scaling]]:
    """How the time of rows grows, in settings of three lengths or more."""
    return {
        setting: {
            name: found for name, records in of_setting.items() if (found := scaling(records))
        }
        for setting, of_setting in series(board).items()
    }


@_of_one_board
def series(board: Leaderboard) -> dict[Setting, Series]:
    """Timed records of mechanisms by setting, without controls, which are not compared."""
    found: dict[Setting, Series] = {}
    for ranking in board.rankings:
        if ranking.setting.is_model:
            continue  # an image size is not a number of tokens
        of_setting = found.setdefault(ranking.setting, {})
        for standing in ranking.standings:
            if isinstance(standing.record.result, Speed) and not standing.is_control:
                of_setting.setdefault(standing.entry, {})[ranking.size] = standing.record
    return found


def _references(records: Mapping[int, Record], by_key: Mapping[str, Record]) -> dict[int, Record]:
    return {
        length: by_key[record.result.reference_key]
        for length, record in records.items()
        if isinstance(record.result, Speed) and record.result.reference_key in by_key
    }


def growth_sections(board: Leaderboard) -> tuple[Section, ...]:
    """One table for each setting in which a row has three lengths or more."""
    every_crossover = crossovers(board)
    references: dict[Setting, set[str]] = {}
    for ranking in board.rankings:
        references.setdefault(ranking.setting, set()).update(ranking.references)
    return tuple(
        Section(
            title=setting_words(setting, board),
            tables=(_table(of_setting, every_crossover[setting], references[setting]),),
        )
        for setting, of_setting in scalings(board).items()
        if of_setting
    )


def _table(
    of_setting: Mapping[str, Scaling],
    crossings: Mapping[str, Crossover],
    references: Collection[str],
) -> Table:
    longest = max(growth.lengths[-1] for growth in of_setting.values())
    shortest = min(growth.lengths[0] for growth in of_setting.values())
    ahead = PREDICTED * longest
    column = column_for("latency_s", [growth.seconds(ahead) for growth in of_setting.values()])
    over = "".join(references) if len(references) == 1 else "its reference"
    by_time = sorted(of_setting.items(), key=lambda item: (item[1].seconds(longest), item[0]))
    return text_table(
        title=f"seq_len {shortest:,} to {longest:,}",
        header=(
            "entry",
            f"overtakes {over} at",
            "by FLOPs at",
            "time ~ N^",
            column.title.replace("latency", f"predicted at {ahead:,}"),
            "why time and FLOPs differ",
        ),
        rows=tuple(
            (
                name,
                crossover_words(crossings[name]) if name in crossings else "",
                flops_words(crossings[name]) if name in crossings else "",
                exponent_words(growth),
                _predicted(growth, ahead, longest, column),
                crossings[name].reason if name in crossings else "",
            )
            for name, growth in by_time
        ),
        num_words=1,
    )


def exponent_words(growth: Scaling) -> str:
    """Exponent with its interval, e.g. ``1.02 [0.98, 1.05]``."""
    return bracketed("{:.2f}".format, growth.exponent, growth.exponent_interval)


def _predicted(growth: Scaling, length: int, longest: int, column: Column) -> str:
    """Predicted time; empty if the fit is poor, or other rows were measured at longer lengths."""
    if growth.misfit > MAX_MISFIT or growth.lengths[-1] < longest:
        return ""
    return f"~{column.write(growth.seconds(length))}"


def thread_sections(board: Leaderboard) -> tuple[Section, ...]:
    """One section for each setting that was measured with several numbers of threads."""

    def shared(ranking: Ranking) -> Setting:
        return replace(ranking.setting, num_threads=1)

    rankings = sorted(board.rankings, key=lambda r: (shared(r).order, r.size))
    sections = []
    for setting, of_setting in groupby(rankings, key=shared):
        by_size = groupby(of_setting, key=lambda ranking: ranking.size)
        tables = tuple(table for _, group in by_size for table in _tables(list(group)))
        if tables:
            words = setting_words(setting, board).replace(" · 1 thread", "")
            sections.append(Section(title=f"More threads · {words}", tables=tables))
    return tuple(sections)


def _tables(rankings: Sequence[Ranking]) -> Iterator[Table]:
    """The most threads against the fewest, for one size."""
    few, *_, many = sorted(rankings, key=lambda r: r.setting.num_threads) * 2
    counts = few.setting.num_threads, many.setting.num_threads
    slow = {standing.entry: standing for standing in few.standings}
    pairs = [(slow[s.entry], s) for s in many.standings if s.entry in slow]
    rows = [(one, s, r) for one, s in pairs if (r := ratio_between(s.record, one.record))]
    if counts[0] == counts[1] or not rows:
        return
    rows.sort(key=lambda row: -row[2].median)
    table = text_table(
        title=f"{few.setting.workload.size_axis} {few.size:,}",
        header=("entry", f"{quantity(counts[1], 'thread')} over {counts[0]}"),
        rows=tuple((s.entry, ratio_words(ratio)) for _, s, ratio in rows),
        num_words=1,
    )
    yield with_marks(table, [marks(one.record, s.record) for one, s, _ in rows])
