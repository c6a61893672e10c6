"""Train every row at every rate of a grid, and write which was best on validation examples.

    python -m bench.rates [grid=NAME] [presets=FILE] [KEY=VALUE of bench.sweep ...]

Rows are those of `make bench`, tasks recall, recall_causal and tile_recall, unless attention= and
task= name others. Each run is a record under `out`, results/rates by itself: what is there already
is not trained again, so Ctrl-C and a later call go on from there. The test set plays no part.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.app.command import CONF, check_writable, read_yaml, run_app
from bench.app.errors import ConfigError, did_you_mean
from bench.app.files import write_whole
from bench.cell import Cell
from bench.config import SweepConfig, read_sweep_config
from bench.machine.environment import Environment, available_devices, current, freshness
from bench.plan import PlannedCell, plan
from bench.rates.grid import GRIDS, MAX_WIDENINGS, Best, Trained, best_of
from bench.rates.presets import RatePreset, presets_text, read_presets
from bench.record import Quality, Record
from bench.store import latest, read_records
from bench.sweep import measure, missing
from bench.tasks.base import task_class
from bench.worker.launch import WorkerServer

PRESETS = CONF / "rates" / "searched.yaml"
USUAL = {
    "attention": "[softmax,linear,performer,performer_relu,flatten,nala,gla,"
    "gated_deltanet,uniform,none]",
    "task": "[recall,recall_causal,tile_recall]",
    "seq_len": "[]",
    "out": "results/rates",
    "rates": "shared",
    "require_ok": "false",
}
"""Of `bench.sweep`, unless something else is given."""


SEED = 0
"""One seed a rate: what the search costs is rates, and the table has its own seeds."""


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A row on a task, with the rates to train it at.

    Attributes:
        cell: at the rate that rows share.
    """

    cell: Cell
    rates: tuple[float, ...]

    def at(self, rate: float) -> Cell:
        """The same run at another rate."""
        work = self.cell.task
        settings = work.settings | {"learning_rate": rate}
        return replace(self.cell, workload=replace(work, settings=settings))


def main(argv: list[str] | None = None) -> int:
    """The command: its own two words, and what is left for a sweep."""
    words = sys.argv[1:] if argv is None else argv
    if {"-h", "--help"} & set(words):
        print(__doc__)
        print(f"grid: {', '.join(GRIDS)}. presets: where to write, {PRESETS} by itself.")
        return 0
    own = {k: v for k, _, v in (word.partition("=") for word in words) if k in ("grid", "presets")}
    rest = [word for word in words if word.partition("=")[0] not in own]
    given = {word.partition("=")[0] for word in rest}
    usual = [f"{key}={value}" for key, value in USUAL.items() if key not in given]

    def command(composed: dict[str, Any]) -> int:
        return search(composed, own.get("grid", "usual"), Path(own.get("presets", PRESETS)))

    return run_app("sweep", command, [*usual, *rest])


def search(composed: dict[str, Any], grid: str, file: Path) -> int:
    """Search, widen where the best lies at an edge, and write after each round what is known."""
    if grid not in GRIDS:
        raise ConfigError(f"grid={grid} is not known. {did_you_mean(grid, GRIDS)}")
    console = Console()
    config = read_sweep_config(composed)
    check_writable(config.out)
    rows = [_Row(cell=cell, rates=GRIDS[grid]) for cell in _trainable(config)]
    if config.dry_run:
        console.print(f"{sum(len(row.rates) for row in rows)} runs; nothing was trained.")
        return 0
    server = WorkerServer(config.run.allocator)
    here = current(available_devices(), config.run.allocator, server.environment())
    is_interrupted = False
    for _ in range(1 + MAX_WIDENINGS):
        planned = [PlannedCell(cell=row.at(rate)) for row in rows for rate in row.rates]
        todo = missing(planned, read_records(config.out, missing_ok=True), here, config)
        *_, is_interrupted = measure(config, todo, here, server, composed["sweep_id"], console)
        records = read_records(config.out, missing_ok=True)
        found = [(row, _runs(row, records, here)) for row in rows]
        keep(file, [p for row, runs in found if (p := _preset(row, runs)) is not None])
        wider = [_widened(row, runs) for row, runs in found]
        if is_interrupted or wider == rows:
            break
        rows = wider
    _print(console, found, file)
    if is_interrupted:
        console.print("Stopped. The same command goes on from here.")
        return 130
    return 0


def _trainable(config: SweepConfig) -> list[Cell]:
    """A cell for each row and task, at the rate that rows share, planned as a sweep plans it."""
    planned = plan(replace(config, axes=replace(config.axes, seq_len=(), seed=(SEED,))))
    return [p.cell for p in planned if p.unsupported is None]


def _runs(row: _Row, records: Sequence[Record], here: Environment) -> dict[float, Trained]:
    """What its rates came to, as far as they are through with the source that is here now."""
    newest = {r.cell.key: r for r in latest(records) if r.freshness == freshness(row.cell, here)}
    keys = {rate: row.at(rate).key for rate in row.rates}
    return {rate: _trained(newest[key]) for rate, key in keys.items() if key in newest}


def _trained(record: Record) -> Trained:
    result = record.result
    if not isinstance(result, Quality) or not result.validation:
        return Trained(score=None)
    return Trained(score=result.validation[-1], steps_to_90=result.steps_to_90)


def _best(row: _Row, runs: Mapping[float, Trained]) -> Best:
    return best_of(runs, better=task_class(row.cell.task.task).better)


def _widened(row: _Row, runs: Mapping[float, Trained]) -> _Row:
    """With one more rate where the best lies at the edge."""
    if len(runs) < len(row.rates) or (beyond := _best(row, runs).beyond) is None:
        return row
    return replace(row, rates=tuple(sorted({*row.rates, beyond})))


def _preset(row: _Row, runs: Mapping[float, Trained]) -> RatePreset | None:
    """What was found; None of a row that is not through, or that no rate could train."""
    best = _best(row, runs)
    if len(runs) < len(row.rates) or best.rate is None:
        return None
    return RatePreset(
        task=row.cell.task.label,
        entry=row.cell.entry,
        mechanism=row.cell.mechanism,
        hyperparameters=row.cell.hyperparameters,
        settings=row.cell.task.settings,
        learning_rate=best.rate,
        tried=tuple((rate, runs[rate].score) for rate in row.rates),
        is_at_edge=best.beyond is not None,
    )


def keep(file: Path, presets: Sequence[RatePreset]) -> None:
    """Write presets beside those that the file has of other rows.

    Other rows of a task that was searched at other settings now go: they would hold for nothing.
    """
    settings = {preset.task: preset.settings for preset in presets}
    before = read_presets(read_yaml(file)) if file.is_file() else ()
    kept = {(p.task, p.entry): p for p in before if settings.get(p.task, p.settings) == p.settings}
    kept |= {(preset.task, preset.entry): preset for preset in presets}
    write_whole(file, presets_text(kept.values()))


def _print(
    console: Console, found: Sequence[tuple[_Row, dict[float, Trained]]], file: Path
) -> None:
    for row, runs in found:
        name = f"{row.cell.entry} on {row.cell.task.label}"
        tried = ", ".join(f"{rate:g}: {_score(runs.get(rate))}" for rate in row.rates)
        best = _best(row, runs)
        rate = "none" if best.rate is None else f"{best.rate:g}"
        edge = " (at the edge of what was tried)" if best.beyond is not None else ""
        is_through = len(runs) == len(row.rates)
        words = f"best {rate}{edge}" if is_through else "not through"
        console.print(f"{name}: {words} of {tried}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"Wrote {file}", soft_wrap=True)


def _score(run: Trained | None) -> str:
    if run is None:
        return "?"
    return "failed" if run.score is None else f"{run.score:.3f}"


if __name__ == "__main__":
    sys.exit(main())
