"""How many seeds tell two entries apart on a task, by the spread of stored runs. No torch."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rich.console import Console

from bench.core.cli.errors import ConfigError, did_you_mean
from bench.core.comparison import seeds_by_pilot
from bench.core.places import CHECKOUT, CONF
from bench.core.record import Quality, Record
from bench.core.rows import row_labels
from bench.core.store import read_packed
from bench.publishing.searched import at_best_rate
from bench.studies.reproduce.stored import read_all
from bench.studies.reproduce.verdicts import FEWEST_SEEDS

SHOWCASE = CHECKOUT / "docs" / "results" / "records.jsonl.gz"
ACCURACY = CHECKOUT / "results" / "accuracy"
_FORM = re.compile(r"(\S+) > (\S+) by (\d+(?:\.\d+)?) on (\S+)")
_EXAMPLE = "nala > flatten by 0.5 on tile_recall"


@dataclass(frozen=True, kw_only=True)
class Question:
    """A difference that is to be told from 0.

    Attributes:
        first, second: rows.
        difference: of their scores in points, or in the unit of a task that has one.
        task: entry of conf/task.
    """

    first: str
    second: str
    difference: float
    task: str


@dataclass(frozen=True, kw_only=True)
class Pilot:
    """Stored runs of two entries under the same settings and seeds.

    Attributes:
        differences: first less second by seed, in points or in the task's unit.
        unit: of them.
        settings: of the task.
        train_s: seconds that one seed of both entries takes, on average.
        num_threads: that a run used.
    """

    differences: tuple[float, ...]
    unit: str
    settings: dict[str, Any]
    train_s: float
    num_threads: int


def read_question(words: str, records: Sequence[Record]) -> Question:
    """Parse ``FIRST > SECOND by POINTS on TASK``.

    Raises:
        ConfigError: another form, or an entry or a task that neither conf nor a record knows.
    """
    found = _FORM.fullmatch(" ".join(words.split()))
    if found is None:
        raise ConfigError(
            f"power={words!r} is not of the form 'FIRST > SECOND by POINTS on TASK', e.g. "
            f"'{_EXAMPLE}'."
        )
    first, second, points, task = found.groups()
    trained = [record for record in records if record.cell.is_task]
    entries = {*row_labels()} | {record.cell.entry for record in trained}
    tasks = {path.stem for path in (CONF / "task").glob("*.yaml")}
    for name in (first, second):
        if name not in entries:
            raise ConfigError(f"power: there is no entry {name}. {did_you_mean(name, entries)}")
    if task not in tasks:
        raise ConfigError(f"power: there is no task {task}. {did_you_mean(task, tasks)}")
    if first == second or float(points) == 0:
        raise ConfigError(f"power={words!r} asks for no difference. Name two entries and points.")
    return Question(first=first, second=second, difference=float(points), task=task)


def pilot_of(question: Question, records: Sequence[Record]) -> Pilot | None:
    """The newest runs of both entries under the same settings, with enough seeds in common.

    Learning rates may differ, since each entry has its own; of a search, only the runs at the best
    rate count. None if there are no such runs.
    """
    groups: dict[str, dict[str, dict[int, Record]]] = {}
    newest: dict[str, str] = {}
    asked = at_best_rate(record for record in records if _is_about(record, question))
    for record in sorted(asked, key=lambda record: record.started_at):
        name = _shared(record)
        rows = groups.setdefault(name, {})
        # If an entry was trained with several sets of hyperparameters, the newest counts.
        own = rows.setdefault(record.cell.entry, {})
        if own and next(iter(own.values())).cell.hyperparameters != record.cell.hyperparameters:
            own.clear()
        own[record.cell.task.seed] = record
        newest[name] = record.started_at
    for name in sorted(groups, key=lambda name: newest[name], reverse=True):
        first, second = (groups[name].get(row, {}) for row in (question.first, question.second))
        seeds = sorted(first.keys() & second.keys())
        if len(seeds) >= FEWEST_SEEDS:
            return _pilot(first, second, seeds)
    return None


def _is_about(record: Record, question: Question) -> bool:
    if not record.cell.is_task or not isinstance(record.result, Quality):
        return False
    label = record.cell.task.label.split()[0]
    return label == question.task and record.cell.entry in (question.first, question.second)


def _shared(record: Record) -> str:
    """Task, settings and version that two runs must share, as JSON; each may have its own rate."""
    work = record.cell.task
    settings = {key: value for key, value in work.settings.items() if key != "learning_rate"}
    return json.dumps([work.label, settings, record.training_version], sort_keys=True)


def _pilot(
    first: Mapping[int, Record], second: Mapping[int, Record], seeds: Sequence[int]
) -> Pilot:
    results = [(first[seed].result, second[seed].result) for seed in seeds]
    pairs = [(a, b) for a, b in results if isinstance(a, Quality) and isinstance(b, Quality)]
    unit = pairs[0][0].unit
    scale = 1.0 if unit else 100.0
    cell = first[seeds[0]].cell
    return Pilot(
        differences=tuple(scale * (a.accuracy - b.accuracy) for a, b in pairs),
        unit=unit or "points",
        settings=dict(cell.task.settings),
        train_s=mean((a.train_s or 0.0) + (b.train_s or 0.0) for a, b in pairs),
        num_threads=cell.num_threads or 1,
    )


def answer(question: Question, pilot: Pilot) -> list[str]:
    """Lines on the stored runs, the number of seeds that is needed, and its cost in core-hours."""
    num_pilot, spread = len(pilot.differences), stdev(pilot.differences)
    found = seeds_by_pilot(question.difference, spread, num_pilot)
    pair = f"{question.first} less {question.second} on {question.task}"
    told = (
        f"{pair}: {mean(pilot.differences):+.2f} {pilot.unit} over {num_pilot} stored seeds, "
        f"spread {spread:.2f} from seed to seed"
    )
    if found is None:
        return [told, f"no number of seeds tells {question.difference:g} {pilot.unit} from 0"]
    core_s = pilot.train_s * pilot.num_threads
    return [
        told,
        f"to tell {question.difference:g} {pilot.unit} from 0 with 80 % power takes, of both "
        f"entries, {found}",
        f"{_hours(found.number * core_s)} core-hours ({_hours(found.low * core_s)} to "
        f"{_hours(found.high * core_s)}), at {core_s:.0f} core-seconds a seed of both",
    ]


def print_power(words: str, stores: Sequence[Path], console: Console) -> int:
    """Answer ``power=``; returns the exit code.

    Raises:
        ConfigError: a question that cannot be read, or no stored spread.
    """
    kept = sorted(folder for folder in ACCURACY.glob("*") if folder.is_dir())
    records = (*read_packed(SHOWCASE), *read_all([*kept, *stores]))
    question = read_question(words, records)
    pilot = pilot_of(question, records)
    if pilot is None:
        raise ConfigError(
            f"No {FEWEST_SEEDS} seeds of {question.first} and {question.second} are stored on "
            f"{question.task} under the same settings, so that their spread is not known. This "
            f"sweep gives one: attnbench sweep "
            f"'attention=[{question.first},{question.second}]' task={question.task} seq_len=[] "
            f"'seed=[0,1,2]' out={stores[-1]}"
        )
    for line in answer(question, pilot):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return 0


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.2g}" if seconds < 36_000 else f"{seconds / 3600:,.0f}"
