"""Training runs of a cell: all of them, those that are stored, and the next ones. No torch."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any, TypeVar

from bench.core.cli.entries import LAYERS
from bench.core.cli.errors import ConfigError, did_you_mean
from bench.core.grouping import grouped
from bench.core.places import CONF
from bench.core.record import TRAINING_VERSION, Quality, Record, Status
from bench.core.rows import default_rows, row_labels, settings_of, task_settings_of
from bench.core.settings import as_tuple
from bench.publishing.machine import commit_of
from bench.publishing.naming import commits_in_words
from bench.studies.reproduce.described import PaperCell, Protocol

Scores = Mapping[str, float]
"""Scores of one seed, by the run's label."""

R = TypeVar("R")
BySeed = dict[int, dict[str, R]]
"""Something of each run, by seed and then by the run's label."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run of a protocol.

    Attributes:
        label: label of its task in records: the protocol's name and the settings that vary.
        variant: its place among the protocol's variants, each with a run per point of the grid.
        task: the task and all its settings.
    """

    label: str
    variant: int
    task: dict[str, Any]


def runs_of(protocol: Protocol) -> list[Run]:
    """All runs of one seed, by variant and point of the grid."""
    usual = entry_of("task", protocol.task) | dict(protocol.settings)
    found = []
    for number, variant in enumerate(protocol.variants):
        for values in itertools.product(*protocol.grid.values()):
            varying = dict(variant) | dict(zip(protocol.grid, values, strict=True))
            label = protocol.name + "".join(f" {key}={value}" for key, value in varying.items())
            found.append(Run(label=label, variant=number, task=usual | varying))
    return found


def entry_of(group: str, name: str) -> dict[str, Any]:
    """The settings of a row of the group ``attention``, or of an entry of ``task``.

    Raises:
        ConfigError: there is none; the message names the nearest ones.
    """
    found = settings_of(name) if group == "attention" else task_settings_of(name)
    if found is None:
        tasks = (path.stem for path in (CONF / "task").glob("*.yaml"))
        known = row_labels() if group == "attention" else tuple(tasks)
        raise ConfigError(f"{group}={name}: there is no such {group}. {did_you_mean(name, known)}")
    return found


def row_of(cell: PaperCell) -> dict[str, Any]:
    """The mechanism and all its hyperparameters."""
    own = entry_of("attention", cell.attention) | dict(cell.hyperparameters)
    if LAYERS not in own:
        return own
    layers = [settings_of(name) or {"mechanism": name} for name in as_tuple(own[LAYERS])]
    pairs = [[layer.pop("mechanism"), layer] for layer in layers]
    return {"mechanism": pairs[0][0], LAYERS: pairs}


def _is_of(
    record: Record,
    row: Mapping[str, Any],
    usual_row: Mapping[str, Any],
    task: Mapping[str, Any],
    usual: Mapping[str, Any],
) -> bool:
    """Whether a record is of a row with its hyperparameters on a task with its settings.

    Settings that only the record has are ignored. One that the record lacks, because it was added
    later, must have its usual value, which keeps the earlier behaviour; so must a hyperparameter.

    Args:
        record: of a training run.
        row: a mechanism and its hyperparameters.
        usual_row: those that the mechanism has by itself.
        task: its name and settings.
        usual: those of the entry of conf/task that these started from.
    """
    work = record.cell.task
    if record.cell.mechanism != row["mechanism"] or work.task != task["task"]:
        return False
    given = record.cell.hyperparameters
    return (
        all(row.get(key, value) == value for key, value in given.items())
        and all(
            key == "mechanism" or key in given or usual_row.get(key) == value
            for key, value in row.items()
        )
        and all(task.get(key, value) == value for key, value in work.settings.items())
        and all(
            key == "task" or key in work.settings or usual.get(key) == value
            for key, value in task.items()
        )
    )


def records_of(cell: PaperCell, records: Sequence[Record]) -> BySeed[Record]:
    """The newest stored record of each run.

    All are of one training version, the newest among them.
    """
    if cell.protocol is None or not cell.attention:
        return {}
    row, runs, usual = row_of(cell), runs_of(cell.protocol), entry_of("task", cell.protocol.task)
    usual_row = default_rows().get(row["mechanism"], {})
    found: list[tuple[str, Record]] = []
    for record in sorted(records, key=lambda record: record.started_at):
        if record.cell.is_task and record.cell.mechanism == row["mechanism"]:
            of = (run for run in runs if _is_of(record, row, usual_row, run.task, usual))
            found += [(run.label, record) for run in of]
    newest = max((record.training_version for _, record in found), default=TRAINING_VERSION)
    by_seed: BySeed[Record] = {}
    for label, record in found:
        if record.training_version == newest:
            by_seed.setdefault(record.cell.task.seed, {})[label] = record
    return by_seed


def scores_of(by_seed: BySeed[Record]) -> BySeed[float]:
    """The share of right answers of each run; 0 if it diverged. Runs without a score are left out.

    The share of right answers is that of the test set, as papers report it.
    """
    found: BySeed[float] = {seed: {} for seed in by_seed}
    for seed, own in by_seed.items():
        for label, record in own.items():
            if isinstance(record.result, Quality):
                found[seed][label] = record.result.accuracy
            elif record.status is Status.DIVERGED:
                found[seed][label] = 0.0
    return found


def chosen_by(protocol: Protocol, by_seed: Mapping[int, Scores]) -> list[Run] | None:
    """The best run of each variant's grid, by the first seed with a whole grid; None without one.

    The choice is by test scores, as papers do. So that seed's own score is the best of a grid,
    which favours it; those of the other seeds are not.
    """
    runs = runs_of(protocol)
    variants = grouped(runs, lambda run: run.variant).values()
    if len(runs) == len(variants):
        return runs
    whole = (own for _, own in sorted(by_seed.items()) if all(run.label in own for run in runs))
    if (own := next(whole, None)) is None:
        return None
    return [max(grid, key=lambda run: own[run.label]) for grid in variants]


def next_runs(
    protocol: Protocol, by_seed: Mapping[int, Scores], seeds: Sequence[int]
) -> list[tuple[int, Run]]:
    """The runs to train next, given the scores that are there; empty if none is missing.

    The first seed trains the whole grid; then the others train its best point for each variant. So
    the list holds runs of the first seed alone until its grid is whole.

    Args:
        protocol: defines the runs.
        by_seed: scores so far, by seed.
        seeds: requested seeds; the first one searches the grid if no seed has done so.
    """
    chosen = chosen_by(protocol, by_seed)
    wanted, asked = (runs_of(protocol), seeds[:1]) if chosen is None else (chosen, seeds)
    return [
        (seed, run) for seed in asked for run in wanted if run.label not in by_seed.get(seed, {})
    ]


def whole_scores(chosen: Sequence[Run], by_seed: Mapping[int, Scores]) -> dict[int, float]:
    """Mean over variants, each at its chosen run, by seed; only seeds that have them all."""
    return {
        seed: mean(own[run.label] for run in chosen)
        for seed, own in sorted(by_seed.items())
        if all(run.label in own for run in chosen)
    }


def origins(records: Sequence[Record]) -> str:
    """Commits and machines of records, as ``commits 2b1cefe, 8f90517 on Intel(R) Xeon(R)``."""
    machines = grouped(records, lambda record: record.environment.get("processor"))
    return "; ".join(
        f"{commits_in_words(map(commit_of, own))} on {machine or 'an unknown processor'}"
        for machine, own in machines.items()
    )


def steps_of(results: Sequence[Quality]) -> str:
    """Parameter updates of runs, as ``390`` or ``300 to 390``; ``?`` where none were kept."""
    steps = sorted(result.num_steps for result in results if result.num_steps is not None)
    if not steps:
        return "?"
    return f"{steps[0]:,}" if steps[0] == steps[-1] else f"{steps[0]:,} to {steps[-1]:,}"


def ends_of(results: Sequence[Quality]) -> str:
    """How runs ended, as ``plateau 2, maximum 1``."""
    counts = Counter(result.ended or "not recorded" for result in results)
    return ", ".join(f"{end} {count}" for end, count in counts.most_common())
