"""Train every row at every rate of a grid, and write which was best on validation examples.

    python -m bench.rates [grid=NAME] [presets=FILE] [KEY=VALUE of bench.sweep ...]

Rows are those of `make bench`, tasks recall, recall_causal and tile_recall, unless attention= and
task= name others. Each run is a record under `out`, results/rates by itself: what is there already
is not trained again, so Ctrl-C and a later call go on from there. The test set plays no part.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.app.command import CONF, check_writable, read_yaml
from bench.app.errors import ConfigError, did_you_mean
from bench.app.files import write_whole
from bench.config import read_sweep_config
from bench.machine.environment import Environment, available_devices, current
from bench.plan import PlannedCell
from bench.rates.grid import GRIDS, MAX_WIDENINGS, Trained
from bench.rates.presets import RatePreset, presets_text, read_presets
from bench.rates.rows import Row, best, fresh, run_command, trainable, trained, widened
from bench.record import Record
from bench.store import read_records
from bench.sweep import measure
from bench.todo import missing
from bench.worker.launch import WorkerServer

PRESETS = CONF / "rates" / "searched.yaml"


def main(argv: list[str] | None = None) -> int:
    """The command."""
    words = sys.argv[1:] if argv is None else argv
    if {"-h", "--help"} & set(words):
        print(__doc__)
        print(f"grid: {', '.join(GRIDS)}. presets: where to write, {PRESETS} by itself.")
        return 0
    usual = {"out": "results/rates", "rates": "shared"}
    return run_command(words, ("grid", "presets"), usual, search)


def search(composed: dict[str, Any], own: Mapping[str, str]) -> int:
    """Search, widen where the best lies at an edge, and write after each round what is known."""
    grid, file = own.get("grid", "usual"), Path(own.get("presets", PRESETS))
    if grid not in GRIDS:
        raise ConfigError(f"grid={grid} is not known. {did_you_mean(grid, GRIDS)}")
    console = Console()
    config = read_sweep_config(composed)
    check_writable(config.out)
    is_interrupted = False
    with WorkerServer(config.run.allocator) as server:
        rows = [Row(cell=cell, rates=GRIDS[grid]) for cell in trainable(config, server)]
        if config.dry_run:
            console.print(f"{sum(len(row.rates) for row in rows)} runs; nothing was trained.")
            return 0
        here = current(available_devices(), config.run.allocator, server.environment())
        for _ in range(1 + MAX_WIDENINGS):
            planned = [PlannedCell(cell=row.at(rate)) for row in rows for rate in row.rates]
            todo = missing(planned, read_records(config.out, missing_ok=True), here, config)
            done = measure(config, todo, here, server, composed["sweep_id"], console)
            is_interrupted = done.is_interrupted
            records = read_records(config.out, missing_ok=True)
            found = [(row, _runs(row, records, here)) for row in rows]
            keep(file, [p for row, runs in found if (p := _preset(row, runs)) is not None])
            wider = [widened(row, runs) for row, runs in found]
            if is_interrupted or wider == rows:
                break
            rows = wider
    _print(console, found, file)
    if is_interrupted:
        console.print("Stopped. The same command goes on from here.")
        return 130
    return 0


def _runs(row: Row, records: Sequence[Record], here: Environment) -> dict[float, Trained]:
    """What its rates came to, as far as they are through."""
    newest = fresh(records, row.cell, here)
    keys = {rate: row.at(rate).key for rate in row.rates}
    return {rate: trained(newest[key]) for rate, key in keys.items() if key in newest}


def _preset(row: Row, runs: Mapping[float, Trained]) -> RatePreset | None:
    """What was found; None of a row that is not through, or that no rate could train."""
    found = best(row, runs)
    if len(runs) < len(row.rates) or found.rate is None:
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
    """Write presets beside those that the file has of other rows.

    A task may have been searched at several settings, such as numbers of steps.
    """
    before = read_presets(read_yaml(file)) if file.is_file() else ()
    kept = {_identity(preset): preset for preset in (*before, *presets)}
    write_whole(file, presets_text(kept.values()))


def _identity(preset: RatePreset) -> tuple[str, str, str]:
    return preset.task, preset.entry, json.dumps(preset.settings, sort_keys=True)


def _print(console: Console, found: Sequence[tuple[Row, dict[float, Trained]]], file: Path) -> None:
    for row, runs in found:
        tried = ", ".join(f"{rate:g}: {_score(runs.get(rate))}" for rate in row.rates)
        chosen = best(row, runs)
        rate = "none" if chosen.rate is None else f"{chosen.rate:g}"
        edge = " (at the edge of what was tried)" if chosen.beyond is not None else ""
        is_through = len(runs) == len(row.rates)
        words = f"best {rate}{edge}" if is_through else "not through"
        console.print(
            f"{row.name}: {words} of {tried}", markup=False, highlight=False, soft_wrap=True
        )
    console.print(f"Wrote {file}", soft_wrap=True)


def _score(run: Trained | None) -> str:
    if run is None:
        return "?"
    return "failed" if run.score is None else f"{run.score:.3f}"


if __name__ == "__main__":
    sys.exit(main())
