"""Speed-up by more threads: each entry against itself with fewer, if both were measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from bench.core.format import quantity, ratio_words
from bench.publishing.document import Table, text_table
from bench.publishing.leaderboard import Leaderboard, Ranking, Setting
from bench.publishing.metrics.marks import marks
from bench.publishing.metrics.speedup import ratio_between
from bench.publishing.tables import Section, setting_words, with_marks


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
