"""Train every row at every rate of a grid, and write which was best on validation examples.

    attnbench rates [seed=[0,1,2]] [converge=true] [grid=NAME] [presets=FILE] [budget=30m]
                    [KEY=VALUE of bench.sweep ...]

Rows are those of `make bench`, tasks recall_span and tile_recall, unless attention= and task= name
others. The search takes the first seed; further ones are trained at the best rate. If every run of
a search is stuck, it has found nothing and goes on with the next seed; after the last one, with
four times the steps. With converge=true steps are doubled, each time with a search of its own,
until the mean of a row's seeds changes by less than a point. Each run is a record under `out`,
results/rates by itself: what is there already is not trained again, so a later call goes on after
Ctrl-C or the end of a budget. The test set plays no part in the choice of a rate.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, Literal

from bench.core.cell import Cell
from bench.core.cli.command import read_yaml, run_app
from bench.core.cli.errors import ConfigError
from bench.core.cli.files import check_writable, write_whole
from bench.core.cli.streams import exit_code, make_streams_unbreakable
from bench.core.format import number, percent, quantity
from bench.core.grid import GRIDS
from bench.core.observed import CONTROLS
from bench.core.places import CONF
from bench.core.presets import RatePreset, presets_text, read_presets
from bench.core.record import Record
from bench.core.settings import Folder, Settings, Word
from bench.core.spans import span_of, span_words
from bench.core.workloads import later_settings
from bench.measuring.config import read_sweep_config
from bench.publishing.converged import CONVERGED
from bench.studies.rates.tuned import (
    MORE_STEPS,
    Arm,
    TaskRow,
    best,
    longer,
    search_of,
    trainable,
    trainer,
    tuned,
)
from bench.studies.session import STOPPED, Session

PRESETS = CONF / "rates" / "searched.yaml"
MAX_DOUBLINGS = 5
"""Largest number of times that steps are doubled."""


USUAL = {
    "attention": "[softmax,linear,performer,performer_relu,flatten,nala,gla,"
    "gated_deltanet,uniform,none]",
    "task": "[recall_span,tile_recall]",
    "seq_len": "[]",
    "require_ok": "false",
    "out": "results/rates",
    "rates": "shared",
}
"""Defaults of `bench.sweep`: the rows and tasks of `make bench`."""

_UNREAD = {"force", "only", "shard", "timings"}
"""Keys of `bench.sweep` that would change nothing."""


class Own(Settings):
    """Keys beside those of a sweep."""

    grid: Annotated[str, Word(lambda: GRIDS)] = "usual"
    presets: Folder = PRESETS
    converge: Literal["true", "false"] = "false"


Command = Callable[[dict[str, Any], dict[str, str]], int]
"""Takes the composed configuration of a sweep, and the words with keys of `Own`."""


def main(argv: list[str] | None = None, command: Command | None = None) -> int:
    """Run the command, `search` unless another is given; returns the exit code."""
    make_streams_unbreakable()
    words = sys.argv[1:] if argv is None else argv
    if {"-h", "--help"} & set(words):
        print(f"{__doc__}\ngrid: {', '.join(GRIDS)}. presets: where to write, {PRESETS} by itself.")
        return exit_code(0)
    pairs = [word.partition("=") for word in words]
    own = {key: value for key, _, value in pairs if key in Own.model_fields}
    rest = [word for word in words if word.partition("=")[0] not in own]
    given = {word.partition("=")[0] for word in rest}
    defaults = [f"{key}={value}" for key, value in USUAL.items() if key not in given]

    def checked(composed: dict[str, Any]) -> int:
        if unread := sorted(given & _UNREAD):
            raise ConfigError(
                f"{unread[0]}= is of sweep alone: here all rows are trained, and what is stored is "
                "not trained again. Leave it out."
            )
        return (command or search)(composed, own)

    return run_app("sweep", checked, [*defaults, *rest])


def search(composed: dict[str, Any], own: Mapping[str, str]) -> int:
    """Search and train further seeds; rates are stored after each search."""
    asked, config = Own.read(own), read_sweep_config(composed)
    check_writable(config.out)
    check_writable(asked.presets.parent)
    with Session("rates", composed) as session:
        cells, grid, seeds = trainable(config, session), GRIDS[asked.grid], config.axes.seed
        if config.dry_run:
            session.say(f"{quantity(len(cells) * len(grid), 'run')}; nothing was trained.")
            return 0
        records: dict[str, Record] = {}

        def searched_for(cells: Sequence[Cell]) -> list[Arm]:
            """Search rates for some rows, store them and print them."""
            rows = {row.name: row for row in (TaskRow(cell=c, rates=grid) for c in cells)}
            arms: list[Arm] = []
            try:
                for label in dict.fromkeys(cell.task.label for cell in cells):  # arms go by entry
                    own = [cell for cell in cells if cell.task.label == label]
                    arms += tuned(own, seeds, train, grid=grid).values()
            finally:  # also of what was searched before Ctrl-C
                rows |= {arm.row.name: arm.row for arm in arms}
                stuck = (arm.row for arm in arms if arm.beyond)
                more = [replace(row, cell=longer(row.cell, MORE_STEPS)) for row in stuck]
                presets = (_preset(row, seeds, records) for row in (*rows.values(), *more))
                keep(asked.presets, [preset for preset in presets if preset])
            _print(session, arms, asked.presets)
            return arms

        with trainer(config, session, config.budget_s, records) as train:
            arms = searched_for(cells)
            for _ in range(MAX_DOUBLINGS if asked.converge == "true" else 0):
                before = {a.row.name: fmean(a.scores) for a in arms if a.tried and a.scores}
                rising = [arm.row.cell for arm in arms if arm.row.name in before]
                if not rising:
                    break
                found = searched_for([longer(cell, 2) for cell in rising])
                ends = {a.row.name: fmean(a.scores) for a in found if a.scores}
                changes = {name: end - before[name] for name, end in ends.items()}
                arms = [a for a in found if abs(changes.get(a.row.name, 0.0)) >= CONVERGED]
                _print_changes(session, found, changes)
        return STOPPED if session.is_stopped else 0


def _preset(row: TaskRow, seeds: Sequence[int], records: Mapping[str, Record]) -> RatePreset | None:
    """Preset found for a row; None for a control, and where a run of the search is missing."""
    runs, caveat = search_of(row, seeds, records)
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
        caveat=caveat,
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

    A setting that only one of them has must be a later one at its old value.
    """
    if (old.task, old.entry) != (new.task, new.entry):
        return False
    shared = old.settings.keys() & new.settings.keys()
    if any(old.settings[name] != new.settings[name] for name in shared):
        return False
    later = later_settings(new.task)
    return all(
        later.get(name, value) == value
        for preset in (old, new)
        for name, value in preset.settings.items()
        if name not in shared
    )


def _print(session: Session, arms: Sequence[Arm], file: Path) -> None:
    for arm in arms:
        spans = [span_words(s.height, s.rungs) for run in arm.runs.values() if (s := span_of(run))]
        name = f"{arm.row.name}, {arm.num_steps:,} steps"
        unit = _unit(arm)
        scores = " ".join([*map(number if unit else percent, arm.scores), unit]).rstrip() or "none"
        scores = f"span {', '.join(spans)}" if spans else scores
        words = f"control, test {scores}"
        if arm.tried:
            tried = ", ".join(f"{rate:g}: {_score(score)}" for rate, score in arm.tried)
            edge = " (at the edge of what was tried)" if arm.is_at_edge else ""
            is_found = any(score is not None for _, score in arm.tried)
            chosen = f"best {arm.rate:g}{edge}" if is_found else f"the task's {arm.rate:g} instead"
            words = f"{chosen} of {tried}; test {scores}"
        further = [arm.caveat, arm.not_learned]
        session.say(f"{name}: {'; '.join([words, *filter(None, further)])}")
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
