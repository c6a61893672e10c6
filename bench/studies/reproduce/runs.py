"""Training runs of a cell: all of them, those that are stored, and the next ones. No torch."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from bench.core.cli.command import read_yaml
from bench.core.cli.entries import LAYERS
from bench.core.cli.errors import ConfigError, did_you_mean
from bench.core.places import CONF
from bench.core.record import TRAINING_VERSION, Quality, Record, Status
from bench.core.rows import row_labels, settings_of
from bench.core.settings import as_tuple
from bench.studies.reproduce.described import PaperCell, Protocol
from bench.studies.reproduce.verdicts import chosen_points, score_at

Place = tuple[int, int]
Scores = Mapping[Place, float]
"""Scores of one seed, by variant and point of the grid."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run of a protocol.

    Attributes:
        label: label of its task in records: the protocol's name and the settings that vary.
        variant, point: its place among the protocol's variants and in its grid.
        settings: what differs from the entry in conf/task.
    """

    label: str
    variant: int
    point: int
    settings: dict[str, Any]


def runs_of(protocol: Protocol) -> Iterator[Run]:
    """All runs of one seed, by variant and point of the grid."""
    points = [
        dict(zip(protocol.grid, values, strict=True))
        for values in itertools.product(*protocol.grid.values())
    ]
    for number, variant in enumerate(protocol.variants):
        for place, point in enumerate(points):
            words = "".join(f" {key}={value}" for key, value in (variant | point).items())
            yield Run(
                label=protocol.name + words,
                variant=number,
                point=place,
                settings=protocol.settings | variant | point,
            )


def entry_of(group: str, name: str) -> dict[str, Any]:
    """The settings of a row, or of an entry of conf/<group>.

    Raises:
        ConfigError: there is none; the message names the nearest ones.
    """
    return dict(_read_entry(group, name))


@cache
def _read_entry(group: str, name: str) -> dict[str, Any]:
    if group == "attention" and (row := settings_of(name)):
        return row
    files = {path.stem: path for path in (CONF / group).glob("*.yaml")}
    if name not in files:  # no path is made from an unknown name
        known = row_labels() if group == "attention" else files
        raise ConfigError(f"{group}={name}: there is no such {group}. {did_you_mean(name, known)}")
    (settings,) = read_yaml(files[name]).values()
    return dict(settings)


def row_of(cell: PaperCell) -> dict[str, Any]:
    """The mechanism and all its hyperparameters."""
    own = entry_of("attention", cell.attention) | cell.hyperparameters
    if LAYERS not in own:
        return own
    named = [str(name) for name in as_tuple(own[LAYERS])]
    if not named:
        raise ConfigError(f"{cell.id} names no layer in its hyperparameters.")
    layers = [settings_of(name) or {"mechanism": name} for name in named]
    pairs = [[layer.pop("mechanism"), layer] for layer in layers]
    return {"mechanism": pairs[0][0], LAYERS: pairs}


def task_of(protocol: Protocol, run: Run) -> dict[str, Any]:
    """The task and all its settings."""
    return entry_of("task", protocol.task) | run.settings


def is_of(record: Record, cell: PaperCell, run: Run) -> bool:
    """Whether a record is of a cell's run.

    Settings that only the record has are ignored. One that the record lacks, because it was added
    later, must have the value of its entry in conf/task, which keeps the earlier behaviour.
    """
    assert cell.protocol is not None
    return matches(record, row_of(cell), task_of(cell.protocol, run), cell.protocol.task)


def matches(record: Record, row: Mapping[str, Any], task: Mapping[str, Any], entry: str) -> bool:
    """Whether a record is of a row with its hyperparameters on a task with its settings.

    Args:
        record: of a training run.
        row: a mechanism and its hyperparameters.
        task: its name and settings.
        entry: of conf/task that these settings started from.
    """
    work = record.cell.task
    if record.cell.mechanism != row["mechanism"] or work.task != task["task"]:
        return False
    given, usual = record.cell.hyperparameters, _read_entry("task", entry)
    return (
        all(row.get(key, value) == value for key, value in given.items())
        and all(task.get(key, value) == value for key, value in work.settings.items())
        and all(
            key == "task" or key in work.settings or usual.get(key) == value
            for key, value in task.items()
        )
    )


def records_of(cell: PaperCell, records: Sequence[Record]) -> dict[int, dict[Place, Record]]:
    """The newest stored record of each run, by seed, then by variant and point.

    All are of one training version, the newest among them.
    """
    if cell.protocol is None or not cell.attention:
        return {}
    row, entry = row_of(cell), cell.protocol.task
    runs = [(run, task_of(cell.protocol, run)) for run in runs_of(cell.protocol)]
    found: list[tuple[Run, Record]] = []
    for record in sorted(records, key=lambda record: record.started_at):
        if record.cell.is_task and record.cell.mechanism == row["mechanism"]:
            found += [(run, record) for run, task in runs if matches(record, row, task, entry)]
    newest = max((record.training_version for _, record in found), default=TRAINING_VERSION)
    by_seed: dict[int, dict[Place, Record]] = {}
    for run, record in found:
        if record.training_version == newest:
            by_seed.setdefault(record.cell.task.seed, {})[run.variant, run.point] = record
    return by_seed


def score_of(record: Record) -> float | None:
    """The share of right answers; 0 for a run that diverged, None for one without a score."""
    if isinstance(record.result, Quality):
        return record.result.accuracy
    return 0.0 if record.status is Status.DIVERGED else None


def scores_of(own: Mapping[int, Mapping[Place, Record]]) -> dict[int, Scores]:
    """Scores of the runs that have one, by seed, variant and point."""
    return {
        seed: {place: found for place, r in runs.items() if (found := score_of(r)) is not None}
        for seed, runs in own.items()
    }


def chosen_by(protocol: Protocol, by_seed: Mapping[int, Scores]) -> tuple[int, ...] | None:
    """The points of the grid that the first seed with a whole grid chooses, one per variant.

    None if no seed has a whole grid.
    """
    num_variants, num_points = _sizes(protocol)
    for seed in sorted(by_seed):
        points = chosen_points(by_seed[seed], num_variants, num_points)
        if points is not None:
            return points
    return None


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
    runs = list(runs_of(protocol))
    if _sizes(protocol)[1] == 1:
        points: tuple[int, ...] | None = (0,) * len(protocol.variants)
    else:
        points = chosen_by(protocol, by_seed)
    if points is None:
        first = seeds[0]
        there = by_seed.get(first, {})
        return [(first, run) for run in runs if (run.variant, run.point) not in there]
    return [
        (seed, run)
        for seed in seeds
        for run in runs
        if run.point == points[run.variant]
        and (run.variant, run.point) not in by_seed.get(seed, {})
    ]


def whole_scores(protocol: Protocol, by_seed: Mapping[int, Scores]) -> dict[int, float]:
    """Mean over variants at the chosen points, by seed; only seeds that have them all."""
    points = chosen_by(protocol, by_seed)
    if points is None:
        return {}
    totals = {seed: score_at(own, points) for seed, own in by_seed.items()}
    return {seed: total for seed, total in sorted(totals.items()) if total is not None}


def _sizes(protocol: Protocol) -> tuple[int, int]:
    """Numbers of variants and of points of the grid."""
    num_variants = len(protocol.variants)
    return num_variants, len(list(runs_of(protocol))) // num_variants


def origins(records: Sequence[Record]) -> str:
    """Commits and machines of records, as ``commits 8f905170, 2b1cefe9 on Intel(R) Xeon(R)``."""
    commits: dict[str, dict[str, None]] = {}
    for record in sorted(records, key=lambda record: record.started_at):
        machine = record.environment.get("processor") or "an unknown processor"
        commit = (record.environment.get("commit") or "unknown")[:8]
        commits.setdefault(machine, {})[commit] = None
    return "; ".join(
        f"commit{'s' * (len(own) > 1)} {', '.join(own)} on {machine}"
        for machine, own in commits.items()
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
