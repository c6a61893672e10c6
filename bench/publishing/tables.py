"""A leaderboard as tables of text, which Markdown and the terminal only lay out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from typing import Any

from bench.core import format as fmt
from bench.core.cell import ModelWorkload, TimedWorkload
from bench.core.format import column_for, plain, quantity, with_interval
from bench.core.record import Record, Status
from bench.publishing.document import Block, Column, Heading, Table, Text, text_table
from bench.publishing.leaderboard import (
    RANKED_BY,
    Leaderboard,
    Ranking,
    Setting,
    Standing,
    differing,
)
from bench.publishing.metrics.fvcore import fvcore_verdict
from bench.publishing.metrics.ranks import Ranked
from bench.publishing.metrics.roofline import bound
from bench.publishing.naming import commits_in_words
from bench.publishing.scores import TaskScores

MARKS = "marks"
"""Header of the column of marks, which a table has only if one of its rows has a mark."""
_MARKS_WIDTH = 24
"""Width of the column of marks on a terminal, in characters; longer marks are wrapped."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """Tables under one heading, with what they have in common.

    Attributes:
        notes: what a reader must know.
        fine_print: what a reader may look up; too long for a terminal.
    """

    title: str
    tables: tuple[Table, ...]
    notes: tuple[str, ...] = ()
    fine_print: tuple[str, ...] = ()

    def blocks(self, level: int = 3) -> list[Block]:
        """The section as part of a document."""
        return [Heading(self.title, level), Text(self.notes, self.fine_print), *self.tables]


def speed_sections(
    board: Leaderboard, columns: Sequence[str], *, of_models: bool = False
) -> tuple[Section, ...]:
    """One section per setting of mechanisms, or of whole models; one table per size.

    Sizes at which no entry has a number are left out; `holes_table` lists their cells.
    """
    with_numbers = [
        ranking
        for ranking in board.rankings
        if ranking.setting.is_model == of_models
        and any(standing.record.status is Status.OK for standing in ranking.standings)
    ]
    return tuple(
        Section(
            title=setting_words(setting, board),
            tables=tuple(_ranking_table(ranking, columns) for ranking in group),
            notes=tuple(_padding_notes(setting.workload)),
        )
        for setting, group in groupby(with_numbers, key=lambda ranking: ranking.setting)
    )


def _padding_notes(shape: TimedWorkload) -> Iterator[str]:
    """A note on tokens that are hidden by a mask, if there are any."""
    if isinstance(shape, ModelWorkload) or not shape.is_masked:
        return
    if shape.ragged:
        hidden = f"the last row of the batch is {100 * shape.ragged:g} % shorter than the first"
    else:
        whose = "tokens" if shape.causal else "keys"
        hidden = f"the last {100 * shape.padding:g} % of the {whose} of every row are hidden"
    yield (
        f"Padded under a mask, the reference too: {hidden}. "
        "Compute and throughput leave the padding out."
    )


def holes_table(board: Leaderboard) -> Table:
    """Every cell that is not ok, with its reason."""
    return text_table(
        title="Cells without a number",
        header=("entry", "cell", "status", "reason"),
        rows=tuple(
            (
                hole.cell.entry,
                _cell_words(hole, board),
                status_words(hole.status),
                hole.reason or "",
            )
            for hole in board.holes
        ),
        num_words=4,
    )


def machine_words(board: Leaderboard) -> tuple[str, ...]:
    """The machines, numbered if timings are of several; else which took timings, which scores."""
    if len(board.machines) == 1 or not board.timed_on:
        return board.machines
    if len(board.timed_on) > 1:
        return tuple(f"machine {i}: {words}" for i, words in enumerate(board.machines, start=1))
    return tuple(
        f"{words} ({'timings' if words in board.timed_on else 'scores'})"
        for words in board.machines
    )


def summary_words(board: Leaderboard) -> str:
    """Numbers of cells and of those without a result, dates and commits; processes, if several."""
    num_holes = len(board.holes)
    first, last = (stamp[:10] for stamp in board.started_at)
    when = f", measured {first}" if first == last else f", measured {first} to {last}"
    when += f" at {commits_in_words(board.commits)}" if board.commits else ""
    shared = ""
    if board.num_processes[-1:] > (1,):
        counts = " or ".join(map(str, board.num_processes))
        shared = f" Rounds of a timing are shared by {counts} processes."
    return (
        f"{quantity(board.num_cells, 'cell')}: {board.num_cells - num_holes} ok, "
        f"{num_holes} without a number{when if first else ''}.{shared}"
    )


def _ranking_table(ranking: Ranking, columns: Sequence[str]) -> Table:
    standings = ranking.standings
    shown = {
        name: column_for(name, [standing.value(name) for standing in standings])
        for name in columns
        if name == columns[0] or any(standing.value(name) for standing in standings)
    }
    titles = {name: column.title for name, column in shown.items()}
    references = ranking.references
    has_several = len(references) > 1  # then each row names its reference and has no rank
    if RANKED_BY in titles:
        titles[RANKED_BY] = f"speed-up over {references[0]}" if len(references) == 1 else "speed-up"
    table = text_table(
        title=f"{ranking.setting.workload.size_axis} {ranking.size:,}",
        header=(*(("entry", "over") if has_several else ("rank", "entry")), *titles.values()),
        rows=tuple(
            (
                *((s.entry, s.reference) if has_several else (s.rank_words, s.entry)),
                *_standing_cells(s, shown),
            )
            for s in standings
        ),
        num_words=2,
        leading=leading_rows(standings),
    )
    return with_marks(table, [standing.marks for standing in standings])


def leading_rows(rows: Sequence[Ranked]) -> frozenset[int]:
    """Indices of the rows that share the first place."""
    return frozenset(i for i, row in enumerate(rows) if row.leads)


def with_marks(table: Table, marks: Sequence[Sequence[str]]) -> Table:
    """The table with a column of marks after its columns of words; unchanged if no row has any."""
    if not any(marks):
        return table
    own = Column(MARKS, align="left", most_letters=_MARKS_WIDTH)
    at = table.num_words
    return replace(
        table,
        columns=(*table.columns[:at], own, *table.columns[at:]),
        rows=tuple(
            {**row, MARKS: "; ".join(found)} for row, found in zip(table.rows, marks, strict=True)
        ),
    )


def _standing_cells(standing: Standing, shown: Mapping[str, fmt.Column]) -> tuple[str, ...]:
    cells = []
    for name, column in shown.items():
        # A comparison of latencies is one of ratios, so theirs is the interval that has room.
        ends = None if name == "latency_s" else standing.interval(name)
        text = with_interval(column, standing.value(name), *(ends or (None, None)))
        if name == "roofline_fraction" and text:
            text = f"{text} {bound(standing.record)}"
        if name == "fvcore":
            text = fvcore_verdict(standing.record)
        cells.append(text)
    if standing.record.status is not Status.OK:
        cells[0] = status_words(standing.record.status)
    return tuple(cells)


def setting_words(setting: Setting, board: Leaderboard) -> str:
    """Settings of a section, e.g. ``cpu · 1 thread · float32 · forward · core · causal · ...``.

    They end with the number of processes that shared the rounds.
    """
    shape = setting.workload
    words = [place_words(setting, board), shape.dtype, mode_words(shape.mode)]
    size = f"batch {shape.batch_size}"
    if isinstance(shape, ModelWorkload):
        words.insert(0, shape.model)
    else:
        words += [shape.scope, direction_words(shape)]
        size += f", {quantity(shape.num_heads, 'head')} of {shape.head_dim}"
    extras = [f"{name} {value}" for name, value in setting.extras.items()]
    processes = process_words(_processes(board).get(setting, ()))
    return " · ".join([*words, *extras, size, *filter(None, [processes])])


def direction_words(shape: TimedWorkload) -> str:
    """``causal``, ``bidirectional``, or ``cross`` for keys of their own; empty for a model."""
    if isinstance(shape, ModelWorkload):
        return ""
    if shape.causal:
        return "causal"
    return "bidirectional" if shape.key_len is None else "cross"


def process_words(counts: Collection[int]) -> str:
    """``one process``, ``6 processes`` or ``1 or 6 processes``; empty without any."""
    if not counts or [*counts] == [1]:
        return "one process" if counts else ""
    return f"{' or '.join(map(str, sorted(counts)))} processes"


@lru_cache(maxsize=1)
def _processes(board: Leaderboard) -> dict[Setting, set[int]]:
    """Numbers of processes of a setting's rows, over all sizes."""
    found: dict[Setting, set[int]] = {}
    for ranking in board.rankings:
        found.setdefault(ranking.setting, set()).update(ranking.num_processes)
    return found


def mode_words(mode: str) -> str:
    """A mode as text, e.g. ``forward + backward``."""
    return mode.replace("forward_backward", "forward + backward").replace("_", " ")


def machine_number(setting: Setting, board: Leaderboard) -> list[str]:
    """Its machine's number on the board; empty if all timings are of one machine."""
    several = len(board.timed_on) > 1
    return [f"machine {board.machines.index(setting.machine) + 1}"] if several else []


def place_words(place: Setting | TaskScores, board: Leaderboard) -> str:
    """Device and threads; machine, method and training version where the board has several.

    A table of scores names no machine, since it may have records of several.
    """
    parts = [place.device, quantity(place.num_threads, "thread")]
    if isinstance(place, Setting):
        parts[:0] = machine_number(place, board)
    settings: list[Setting | TaskScores] = [r.setting for r in board.rankings]
    methods = {one.method_version for one in [*settings, *board.tasks]}
    if len(methods) > 1:
        parts.append(f"method {place.method_version}")
    if isinstance(place, TaskScores) and len({one.training_version for one in board.tasks}) > 1:
        parts.append(f"training version {place.training_version}")
    return " · ".join(parts)


def task_axes(task: TaskScores, board: Leaderboard) -> dict[str, Any]:
    """Place and settings of a task, as far as tables with its label differ in them, by name."""
    alike = [one for one in board.tasks if one.label == task.label]
    every = [one.place | one.named_settings for one in alike]
    varied = differing([{name: plain(value) for name, value in own.items()} for own in every])
    own = task.place | task.named_settings
    return {name: plain(own.get(name)) for name in sorted(varied)}


def varied_settings(task: TaskScores, tasks: Sequence[TaskScores]) -> dict[str, Any]:
    """Settings in which a task differs from another one with its label, by name."""
    own = task.named_settings
    alike = [one.named_settings for one in tasks if one.label == task.label]
    return {name: v for name, v in own.items() if any(one.get(name) != v for one in alike)}


def settings_apart(task: TaskScores, board: Leaderboard) -> list[str]:
    """Settings by which a task is told apart from others with its label, as text."""
    axes = task_axes(task, board)
    known = {name: value for name, value in axes.items() if value is not None}
    return [f"{name.replace('_', ' ')} {known[name]}" for name in known if name not in task.place]


def _cell_words(record: Record, board: Leaderboard) -> str:
    cell = record.cell
    words = [cell.describe().removeprefix(f"{cell.entry} ")]
    if cell.is_model:
        words.append(f"batch_size={cell.model.batch_size}")
    elif not cell.is_task:
        settings = [ranking.setting for ranking in board.rankings]
        varied = differing(setting.axes for setting in settings if not setting.is_model)
        own = cell.to_dict()
        shown = ("batch_size", "num_heads", "head_dim", "num_threads")
        words += [f"{name}={own[name]}" for name in shown if name in varied]
    return " ".join(words)


def status_words(status: Status) -> str:
    """A status as text, e.g. ``out of memory``."""
    return str(status).replace("_", " ")
