"""Train every row at every rate of a grid, and write which was best on validation examples.

    attnbench rates [seed=[0,1,2]] [converge=true] [grid=NAME] [presets=FILE] [budget=30m]
                    [KEY=VALUE of bench.sweep ...]

Rows are those of `make bench`, tasks recall, recall_causal and tile_recall, unless attention= and
task= name others. The search takes the first seed; further ones are trained at the best rate. With
converge=true steps are doubled, each time with a search of its own, until the mean of a row's seeds
changes by less than a point. Each run is a record under `out`, results/rates by itself: what is
there already is not trained again, so a later call goes on after Ctrl-C or the end of a budget. The
test set plays no part in the choice of a rate.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, Literal

from bench.core.cell import Cell
from bench.core.cli.command import read_yaml
from bench.core.cli.files import check_writable, write_whole
from bench.core.cli.streams import exit_code, make_streams_unbreakable
from bench.core.clock import now_s
from bench.core.format import number, percent, quantity
from bench.core.grid import GRIDS
from bench.core.observed import CONTROLS
from bench.core.places import CONF
from bench.core.presets import RatePreset, presets_text, read_presets
from bench.core.record import Record
from bench.core.settings import Folder, Settings, Word
from bench.core.workloads import LATER_SETTINGS
from bench.measuring.config import SweepConfig, read_sweep_config
from bench.measuring.plan import PlannedCell
from bench.measuring.worker.jobs import Deadline
from bench.publishing.converged import CONVERGED
from bench.studies.rates.rows import TaskRow, best, run_command, trainable
from bench.studies.rates.tuned import Arm, searched, tuned
from bench.studies.session import STOPPED, Session, Stopped

PRESETS = CONF / "rates" / "searched.yaml"
MAX_DOUBLINGS = 5
"""Largest number of times that steps are doubled."""


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    make_streams_unbreakable()
    words = sys.argv[1:] if argv is None else argv
    if {"-h", "--help"} & set(words):
        print(__doc__)
        print(f"grid: {', '.join(GRIDS)}. presets: where to write, {PRESETS} by itself.")
        return exit_code(0)
    usual = {"out": "results/rates", "rates": "shared"}
    return run_command(words, ("grid", "presets", "converge"), usual, search)


class Own(Settings):
    """Keys beside those of a sweep."""

    grid: Annotated[str, Word(lambda: GRIDS)] = "usual"
    presets: Folder = PRESETS
    converge: Literal["true", "false"] = "false"


def search(composed: dict[str, Any], own: Mapping[str, str]) -> int:
    """Search and train further seeds; rates are stored after each search."""
    asked = Own.read(own)
    grid = asked.grid
    config = read_sweep_config(composed)
    check_writable(config.out)
    check_writable(asked.presets.parent)
    with Session("rates", composed) as session:
        cells = trainable(config, session)
        if config.dry_run:
            session.say(f"{quantity(len(cells) * len(GRIDS[grid]), 'run')}; nothing was trained.")
            return 0
        until = Deadline(math.inf if config.budget_s is None else now_s() + config.budget_s)
        lab = _Search(config, session, asked.presets, until)
        try:
            arms = lab.search(cells, GRIDS[grid])
            for _ in range(MAX_DOUBLINGS if asked.converge == "true" else 0):
                before = {a.row.name: fmean(a.scores) for a in arms if a.tried and a.scores}
                rising = [arm.row.cell for arm in arms if arm.row.name in before]
                if not rising:
                    break
                found = lab.search([_twice_as_long(cell) for cell in rising], GRIDS[grid])
                ends = {a.row.name: fmean(a.scores) for a in found if a.scores}
                changes = {name: end - before[name] for name, end in ends.items()}
                arms = [a for a in found if abs(changes.get(a.row.name, 0.0)) >= CONVERGED]
                _print_changes(session, found, changes)
        except Stopped:
            session.say("Stopped. The same command goes on from here.")
            return 0 if until.is_over else STOPPED
    return 0


class _Search:
    """Searches that share a configuration, records and a file of presets."""

    def __init__(
        self, config: SweepConfig, session: Session, presets: Path, until: Deadline
    ) -> None:
        self._config, self._session, self._presets, self._until = config, session, presets, until
        self._records: dict[str, Record] = {}

    def search(self, cells: Sequence[Cell], grid: Sequence[float]) -> list[Arm]:
        """Search rates for some rows, store them and print them.

        Raises:
            Stopped: by Ctrl-C, or at the end of the budget.
        """
        seeds = self._config.axes.seed
        arms: list[Arm] = []
        try:
            for label in dict.fromkeys(cell.task.label for cell in cells):  # arms go by their entry
                own = [cell for cell in cells if cell.task.label == label]
                found = tuned(own, seeds, self._train, grid=grid, looks_further=len(seeds) > 1)
                arms += found.values()
        except Stopped:
            done = {arm.row.name: arm.row for arm in arms}
            rows = [TaskRow(cell=cell, rates=tuple(grid)) for cell in cells]
            self._keep([done.get(row.name, row) for row in rows])
            raise
        self._keep([arm.row for arm in arms])
        _print(self._session, arms, self._presets)
        return arms

    def _train(self, cells: Sequence[Cell]) -> dict[str, Record]:
        planned = [PlannedCell(cell=cell) for cell in cells]
        trained = self._session.train(self._config, planned, until=self._until)
        self._records |= trained.by_key
        if trained.is_interrupted:
            raise Stopped
        return trained.by_key

    def _keep(self, rows: Sequence[TaskRow]) -> None:
        """Write the best rate of each row whose search is complete."""
        seed = self._config.axes.seed[0]
        found = [p for row in rows if (p := _preset(row, seed, self._records))]
        keep(self._presets, found)


def _twice_as_long(cell: Cell) -> Cell:
    work = cell.task
    settings = work.settings | {"num_steps": 2 * int(work.settings["num_steps"])}
    return replace(cell, workload=replace(work, settings=settings))


def _preset(row: TaskRow, seed: int, records: Mapping[str, Record]) -> RatePreset | None:
    """Preset found for a row; None for a control, and where a run of the search is missing."""
    runs = searched(row, seed, records)
    found = best(row, runs)
    if row.cell.mechanism in CONTROLS or len(runs) < len(row.rates) or found.rate is None:
        return None
    return RatePreset(
        task=row.cell.task.label,
        entry=row.cell.entry,
        mechanism=row.cell.mechanism,
        hyperparameters=row.cell.hyperparameters,
        settings=row.cell.task.settings,
        learning_rate=found.rate,
        tried=tuple((rate, runs[rate].score) for rate in row.rates),
        is_at_edge=found.beyond is not None,
    )


def keep(file: Path, presets: Sequence[RatePreset]) -> None:
    """Write presets into a file, and keep those that it has of other rows.

    A task may have been searched at several settings, such as numbers of steps.
    """
    before = read_presets(read_yaml(file)) if file.is_file() else ()
    left = [old for old in before if not any(_is_replaced(old, new) for new in presets)]
    write_whole(file, presets_text([*left, *presets]))


def _is_replaced(old: RatePreset, new: RatePreset) -> bool:
    """Whether an old preset is of the same row at the same settings.

    A setting that only one of them has must be at its value in `LATER_SETTINGS`.
    """
    if (old.task, old.entry) != (new.task, new.entry):
        return False
    shared = old.settings.keys() & new.settings.keys()
    if any(old.settings[name] != new.settings[name] for name in shared):
        return False
    return all(
        LATER_SETTINGS.get(name, value) == value
        for preset in (old, new)
        for name, value in preset.settings.items()
        if name not in shared
    )


def _print(session: Session, arms: Sequence[Arm], file: Path) -> None:
    for arm in arms:
        name = f"{arm.row.name}, {arm.num_steps:,} steps"
        unit = _unit(arm)
        scores = " ".join([*map(number if unit else percent, arm.scores), unit]).rstrip() or "none"
        words = f"control, test {scores}"
        if arm.tried:
            tried = ", ".join(f"{rate:g}: {_score(score)}" for rate, score in arm.tried)
            edge = " (at the edge of what was tried)" if arm.is_at_edge else ""
            is_found = any(score is not None for _, score in arm.tried)
            chosen = f"best {arm.rate:g}{edge}" if is_found else f"the task's {arm.rate:g} instead"
            words = f"{chosen} of {tried}; test {scores}"
        if arm.not_learned:
            words = f"{words}; {arm.not_learned}"
        session.say(f"{name}: {words}")
    session.say(f"Wrote {file}")


def _print_changes(session: Session, arms: Sequence[Arm], changes: Mapping[str, float]) -> None:
    for arm in arms:
        if arm.row.name in changes:
            change, unit = changes[arm.row.name], _unit(arm)
            words = f"{change:+.3f} {unit}" if unit else f"{100 * change:+.1f} points"
            session.say(f"{arm.row.name}: {arm.num_steps:,} steps change the mean by {words}")


def _unit(arm: Arm) -> str:
    return next((run.unit for run in arm.runs.values()), "")


def _score(score: float | None) -> str:
    return "failed" if score is None else f"{score:.3f}"


if __name__ == "__main__":
    sys.exit(main())
