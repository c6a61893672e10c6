"""A leaderboard as columns of words and numbers, small enough for a hundred thousand rows.

Words are indices into vocabularies, numbers keep six significant digits. What all rows of a ranking
share is stored once, in their group.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bench.core.cell import Cell, KernelWorkload, TaskWorkload
from bench.core.format import interval_names
from bench.core.record import Record, Status
from bench.core.rows import settings_of, task_settings_of
from bench.core.statistics import Value
from bench.core.workloads import later_settings
from bench.publishing.conclusions import headline, task_headline
from bench.publishing.frame import Row, row_of_score, row_of_standing
from bench.publishing.growth import crossovers, exponent_words, scalings
from bench.publishing.leaderboard import RANKED_BY, Leaderboard, Ranking, Setting
from bench.publishing.metrics import columns_of
from bench.publishing.metrics.crossover import crossover_words, flops_words
from bench.publishing.metrics.ranks import Ranks
from bench.publishing.metrics.roofline import roof
from bench.publishing.overall import Overall, OverallRow, overall
from bench.publishing.scores import TaskScores
from bench.publishing.tables import place_words, setting_words

Json = dict[str, Any]

DIGITS = 6


@dataclass(kw_only=True)
class Columns:
    """Rows by column. A row may lack any of them."""

    words: dict[str, list[int]] = field(default_factory=dict)
    vocabularies: dict[str, dict[str, int]] = field(default_factory=dict)
    numbers: dict[str, list[Value]] = field(default_factory=dict)
    num_rows: int = 0

    def append(self, words: dict[str, str], numbers: dict[str, Value]) -> None:
        """Append a row."""
        for name, word in words.items():
            known = self.vocabularies.setdefault(name, {"": 0})
            column = self.words.setdefault(name, [])
            column += [0] * (self.num_rows - len(column))
            column.append(known.setdefault(word, len(known)))
        for name, value in numbers.items():
            if value is not None:
                values = self.numbers.setdefault(name, [])
                values += [None] * (self.num_rows - len(values))
                values.append(rounded(value))
        self.num_rows += 1

    def to_json(self) -> Json:
        """The columns at full length; a word is an index into ``vocabulary``, 0 for none."""
        for column in self.words.values():
            column += [0] * (self.num_rows - len(column))
        for values in self.numbers.values():
            values += [None] * (self.num_rows - len(values))
        return {
            "num_rows": self.num_rows,
            "words": {
                name: {"vocabulary": list(self.vocabularies[name]), "ids": ids}
                for name, ids in self.words.items()
            },
            "numbers": self.numbers,
        }


def rounded(value: Value) -> Value:
    """Round to six significant digits, more than any of these numbers is accurate to."""
    if value is None or isinstance(value, (bool, int)):
        return value
    return float(f"{value:.{DIGITS}g}")


@dataclass(frozen=True, kw_only=True)
class PageRows:
    """The rows of the page, and what the rows of one ranking share.

    Attributes:
        groups: kind, words and axes of each ranking; a row's ``group`` is an index into these.
        records: the record of each row, or those of its seeds.
    """

    columns: Columns
    groups: tuple[Json, ...]
    records: tuple[tuple[Record, ...], ...]


_WORDS = (
    *("entry", "mechanism", "hyperparameters", "overrides", "status", "reason", "sweep", "commit"),
    *("day", "name", "marks", "reference", "bound", "fvcore_verdict", "compile"),
    *("crossover", "crossover_flops", "growth"),
)
_NUMBERS = (
    *("checked_len", "rank_first", "rank_last", "is_control", "is_unranked"),
    *("num_seeds", "num_seeds_missing", "num_tasks", "group"),
)
"""Columns of the frame that the page has, beside its metrics."""


def page_rows(board: Leaderboard, metrics: Sequence[str]) -> PageRows:
    """Every standing and every score of a leaderboard, in its order."""
    columns, groups = Columns(), list[Json]()
    records: list[tuple[Record, ...]] = []
    num_ok = Counter[int]()

    def add(row: Row, metric: str, *own: Record) -> None:
        row["group"] = len(groups)
        num_ok[len(groups)] += row["status"] == Status.OK
        if own:
            cell = next(record.cell for record in own if record.cell.key == row["key"])
            row |= {"overrides": "\n".join(_overrides(cell)), "day": row["started_at"][:10]}
        names = dict.fromkeys((*columns_of(metrics), metric, *interval_names(metric), *_NUMBERS))
        words = {name: row.get(name) or "" for name in _WORDS}
        columns.append(words, {name: row.get(name) for name in names})
        records.append(own)

    by_place = {(ranking.setting, ranking.size): ranking for ranking in board.rankings}
    growth, crossings = growth_words(board)
    for ranking in board.rankings:
        for standing in ranking.standings:
            words = growth.get((ranking.setting, standing.entry), {})
            add(row_of_standing(standing, metrics) | words, RANKED_BY, standing.record)
        group = _ranking_group(ranking, board, by_place)
        groups.append(group | {"crossings": crossings.get(ranking.setting, [])})
    for task in board.tasks:
        for score in task.scores:
            add(row_of_score(score, metrics, task.metric), task.metric, *score.records)
        groups.append(_task_group(task, board))
    for several in (each for each in overall(board) if each.rows):
        for row in several.rows:
            add(_overall_row(row, several), "accuracy")
        groups.append(_overall_group(several, board))
    _mark_opening(groups, num_ok)
    return PageRows(columns=columns, groups=tuple(groups), records=tuple(records))


def _mark_opening(groups: list[Json], num_ok: Mapping[int, int]) -> None:
    """Mark the group of each kind that the page opens with: plain, long, with many numbers."""
    for kind in {group["kind"] for group in groups}:
        own = [number for number, group in enumerate(groups) if group["kind"] == kind]
        enough = 0.8 * max(num_ok[number] for number in own)

        def fitness(number: int, enough: float = enough) -> tuple[object, ...]:
            axes = groups[number]["axes"]
            return (
                num_ok[number] >= enough,
                axes["dtype"] == "float32",
                axes.get("mode") == "forward",
                axes.get("scope") == "core",
                axes.get("causal") is False,
                axes.get("length") or 0,
                num_ok[number],
            )

        groups[max(own, key=fitness)]["opens"] = True


def _overall_row(row: OverallRow, several: Overall) -> Row:
    scores = (score for task in several.tasks for score in task.scores)
    cell = next(score.records[0].cell for score in scores if score.entry == row.entry)
    low, high = row.interval or (None, None)
    reason = "" if row.mean is not None else "no mean: on some task it has no score that counts"
    return {
        **row.columns,
        "mechanism": cell.mechanism,
        "status": "skipped" if reason else "ok",
        "reason": reason,
        "accuracy": row.mean,
        "accuracy_low": low,
        "accuracy_high": high,
        "num_tasks": row.num_covered,
    }


def _overall_group(several: Overall, board: Leaderboard) -> Json:
    group = _task_group(several.tasks[0], board)
    labels = [task.label for task in several.averaged]
    group["axes"] |= {"task": f"mean of {len(labels)} tasks", "settings": ""}
    first = several.tasks[0]
    place = [place_words(first, board), first.dtype]
    group["words"] = " · ".join([f"mean of {', '.join(labels)}", *place])
    return group | {"ties": [], "headline": ""}


def _overrides(cell: Cell) -> Iterator[str]:
    """Overrides of the command line that set a cell as it was measured, unless defaults do."""
    if cell.plugins:
        yield f"plugins=[{','.join(cell.plugins)}]"
    usual = settings_of(cell.entry) or {}
    for name, value in cell.hyperparameters.items():
        if usual and usual.get(name) != value:
            yield f"attention.{cell.entry}.{name}={json.dumps(value)}"
    if cell.is_task:
        yield from _task_overrides(cell.task)


def _task_overrides(work: TaskWorkload) -> Iterator[str]:
    """Overrides that plan a training run; none if no YAML of this project has all its settings."""
    name, *axes = work.label.split(" ")
    usual = task_settings_of(name) or {}
    settings = {"task": work.task} | later_settings(work.task) | work.settings
    if work.shared_rate is not None:
        settings |= {"learning_rate": work.shared_rate}  # its own comes from conf/rates
    listed = [axis.partition("=")[0] for axis in axes]  # values of lists are part of the label
    label = " ".join([name, *(f"{key}={settings.get(key)}" for key in listed)])
    is_planned = work.dtype == "float32" and label == work.label
    if not is_planned or usual.keys() != settings.keys() or usual["task"] != work.task:
        return
    yield f"task=[{name}]"
    for key, default in usual.items():
        value = settings[key]
        if key in listed or value != default:
            words = json.dumps([value] if key in listed else value)
            yield f"task.{name}.{key}={words}"
    if work.shared_rate is None:
        yield "rates=shared"
    if work.token_filters:
        yield f"token_filter=[{','.join(work.token_filters)}]"
        yield f"token_keep=[{','.join(map(str, work.token_keep))}]"


def _both_directions(
    ranking: Ranking, by_place: Mapping[tuple[Setting, int], Ranking]
) -> Iterator[Ranking]:
    """The ranking and, if it has ranks, that of the other direction at the same place."""
    yield ranking
    work = ranking.setting.workload
    if isinstance(work, KernelWorkload):
        other = replace(ranking.setting, workload=replace(work, causal=not work.causal))
        twin = by_place.get((other, ranking.size))
        if twin and twin.ranks and len(twin.ranks.names) > 1:
            yield twin


def _ranking_group(
    ranking: Ranking, board: Leaderboard, by_place: Mapping[tuple[Setting, int], Ranking]
) -> Json:
    setting = ranking.setting
    machine = board.machines.index(setting.machine)
    axes = setting.axes | {"machine": machine, "length": ranking.size}
    axes.pop("compile", None)  # the row says it: eager and compiled rows share a ranking
    return {
        "kind": "model" if setting.is_model else "speed",
        "words": setting_words(setting, board),
        "headline": " ".join(headline(one, board) for one in _both_directions(ranking, by_place)),
        "size_axis": setting.workload.size_axis,
        "references": list(ranking.references),
        "ties": ties(ranking.ranks),
        "wins": wins(ranking.ranks),
        # The machine's ceilings, if it is calibrated.
        "roof": next((found for s in ranking.standings if (found := roof(s.record))), None),
        "axes": axes | {"scope": setting.workload.scope},
    }


def _task_group(task: TaskScores, board: Leaderboard) -> Json:
    axes = task.place | {"task": task.label, "settings": task.settings}
    if len({one.training_version for one in board.tasks}) < 2:
        del axes["training_version"]
    return {
        "kind": "task",
        "words": f"{task.label} · {place_words(task, board)} · {task.dtype}",
        "headline": task_headline(task),
        "unit": task.unit,
        "rungs": [task.rungs[0], task.rungs[-1]] if task.rungs else None,
        "rung_of": task.rung_of,
        "guesses": list(task.guesses),
        "num_seeds": task.num_seeds,
        "ties": ties(task.ranks),
        "wins": wins(task.ranks),
        "ahead": ahead(task.ranks),
        "axes": axes,
    }


MAX_RANKED = 40
"""Largest number of rows of which each pair's probability is kept; more would fill the page."""


def growth_words(
    board: Leaderboard,
) -> tuple[dict[tuple[Setting, str], dict[str, str]], dict[Setting, list[dict[str, object]]]]:
    """Words of each row of a setting, and the crossovers that are marked on a setting's chart.

    The words say where a row overtakes its reference, in time and in FLOPs, and with which power of
    the number of tokens its time grows.
    """
    words: dict[tuple[Setting, str], dict[str, str]] = {}
    crossings: dict[Setting, list[dict[str, object]]] = {}
    for setting, of_setting in crossovers(board).items():
        for name, found in of_setting.items():
            said = crossover_words(found)
            words[setting, name] = {"crossover": said, "crossover_flops": flops_words(found)}
            if found.length is not None:
                crossing = {"name": name, "length": found.length, "words": said}
                crossings.setdefault(setting, []).append(crossing)
    for setting, own in scalings(board).items():
        for name, scaling in own.items():
            words.setdefault((setting, name), {})["growth"] = f"N^{exponent_words(scaling)}"
    return words, crossings


def ties(ranks: Ranks | None) -> list[list[str]]:
    """Groups of rows that cannot be told apart."""
    return [list(names) for names in ranks.groups if len(names) > 1] if ranks else []


def wins(ranks: Ranks | None) -> dict[str, list[object]] | None:
    """How likely each row is ahead of each later one, in percent; None with too few or many."""
    if ranks is None or not 1 < len(ranks.names) <= MAX_RANKED:
        return None
    behind = np.triu_indices(len(ranks.names), k=1)
    likely = np.rint(100 * ranks.wins[behind]).astype(int).tolist()
    return {"names": [*ranks.names], "ahead": likely}


def ahead(ranks: Ranks | None) -> dict[str, list[str]] | None:
    """Rows that each row is ahead of, where that is settled; None without ranks."""
    if ranks is None:
        return None
    return {
        name: [other for other in ranks.names if ranks.is_behind(other, name)]
        for name in ranks.names
    }
