"""How many seeds tell two entries apart on a task, by the spread of stored runs. No torch."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from rich.console import Console

from bench.core.cli.errors import ConfigError, check_known
from bench.core.comparison import seeds_by_pilot
from bench.core.grouping import grouped
from bench.core.places import CHECKOUT, CONF
from bench.core.record import Quality, Record
from bench.core.rows import row_labels
from bench.core.seed_runs import FEWEST_SEEDS
from bench.core.store import read_packed
from bench.publishing.searched import at_best_rate
from bench.studies.reproduce.stored import read_all

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
    entries = {*row_labels(), *(record.cell.entry for record in records if record.cell.is_task)}
    tasks = {path.stem for path in (CONF / "task").glob("*.yaml")}
    for name, what, known in (
        (first, "entry", entries),
        (second, "entry", entries),
        (task, "task", tasks),
    ):
        check_known(name, known, f"power: there is no {what} {name}.")
    if first == second or float(points) == 0:
        raise ConfigError(f"power={words!r} asks for no difference. Name two entries and points.")
    return Question(first=first, second=second, difference=float(points), task=task)


Pairs = list[tuple[Record, Record]]
"""Runs of two entries that differ in the entry, and at most in the learning rate."""


def pilot_of(question: Question, records: Sequence[Record]) -> Pairs:
    """The newest runs of both entries under the same settings, seed by seed; empty if too few.

    Learning rates may differ, since each entry has its own; of a search, only the runs at the best
    rate count. If an entry was trained with several sets of hyperparameters, the newest counts.
    """
    asked = at_best_rate(record for record in records if _is_about(record, question))
    asked.sort(key=lambda record: record.started_at, reverse=True)
    for own in grouped(asked, _shared).values():
        by_entry = grouped(own, lambda record: record.cell.entry)
        rows = [
            {
                run.cell.task.seed: run
                for run in reversed(runs)
                if run.cell.hyperparameters == runs[0].cell.hyperparameters
            }
            for runs in (by_entry.get(row, []) for row in (question.first, question.second))
        ]
        seeds = sorted(rows[0].keys() & rows[1].keys())
        if len(seeds) >= FEWEST_SEEDS:
            return [(rows[0][seed], rows[1][seed]) for seed in seeds]
    return []


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


def answer(question: Question, pilot: Pairs) -> list[str]:
    """Lines on the stored runs, the number of seeds that is needed, and its cost in core-hours."""
    results = [tuple(run.result for run in pair) for pair in pilot]
    pairs = [(a, b) for a, b in results if isinstance(a, Quality) and isinstance(b, Quality)]
    unit, scale = (pairs[0][0].unit, 1.0) if pairs[0][0].unit else ("points", 100.0)
    differences = [scale * (a.accuracy - b.accuracy) for a, b in pairs]
    spread = stdev(differences)
    told = (
        f"{question.first} less {question.second} on {question.task}: {mean(differences):+.2f} "
        f"{unit} over {len(pairs)} stored seeds, spread {spread:.2f} from seed to seed"
    )
    found = seeds_by_pilot(question.difference, spread, len(pairs))
    if found is None:
        return [told, f"no number of seeds tells {question.difference:g} {unit} from 0"]
    core_s = mean((a.train_s or 0.0) + (b.train_s or 0.0) for a, b in pairs)
    core_s *= pilot[0][0].cell.num_threads or 1
    number, low, high = (_hours(each * core_s) for each in (found.number, found.low, found.high))
    return [
        told,
        f"to tell {question.difference:g} {unit} from 0 with 80 % power takes, of both "
        f"entries, {found}",
        f"{number} core-hours ({low} to {high}), at {core_s:.0f} core-seconds a seed of both",
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
    if not pilot:
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
