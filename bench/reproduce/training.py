"""Train what a cell or a claim needs: planned, measured and stored as a sweep does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from bench.app.command import CONF, read_yaml
from bench.config import SweepConfig, read_sweep_config
from bench.machine import environment
from bench.plan import PlannedCell, plan
from bench.record import Record
from bench.reproduce.papers import PaperCell, Protocol
from bench.reproduce.stored import Run, row_of, runs_of, task_of
from bench.store import Tail, read_records
from bench.sweep import measure
from bench.tasks.checkpoint import Checkpoint
from bench.todo import missing
from bench.worker.jobs import Interrupt
from bench.worker.launch import WorkerServer

_LONGEST_S = 7 * 86_400
"""No run is cut off for its length: a budget does that."""


@dataclass(frozen=True, kw_only=True)
class Reached:
    """Where a run stands that was cut off."""

    steps: int
    num_steps: int
    score: float


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What training left behind.

    Attributes:
        records: all of the plan's cells that have ended, earlier ones too.
        is_interrupted: by Ctrl-C or because a budget was spent.
        reached: of the first run that was cut off, if it had been looked at.
    """

    records: tuple[Record, ...]
    is_interrupted: bool = False
    reached: Reached | None = None


def config_for(
    out: Path,
    rows: Mapping[str, dict[str, Any]],
    tasks: Mapping[str, dict[str, Any]],
    seeds: Sequence[int],
    plugins: Sequence[str] = (),
) -> SweepConfig:
    """A sweep over nothing but training runs, on the CPU, at just the settings that are given.

    Args:
        out: where records go.
        rows: by label, a mechanism and its hyperparameters.
        tasks: by label, a task and its settings.
        seeds: of each run.
        plugins: modules that register mechanisms.
    """
    usual = read_yaml(CONF / "sweep.yaml")
    given = {
        "attention": dict(rows),
        "task": dict(tasks),
        "rates": None,
        "seq_len": [],
        "seed": list(seeds),
        "device": "cpu",
        "out": str(out),
        "plugins": list(plugins),
        "run": usual["run"] | {"task_timeout_s": _LONGEST_S},
    }
    return read_sweep_config(usual | given)


def config_of(
    cell: PaperCell,
    protocol: Protocol,
    out: Path,
    seeds: Sequence[int],
    runs: Sequence[Run] | None = None,
) -> SweepConfig:
    """Some runs of a cell; all of them where none are named."""
    chosen = runs_of(protocol) if runs is None else runs
    tasks = {run.label: task_of(protocol, run) for run in chosen}
    return config_for(out, {cell.attention: row_of(cell)}, tasks, seeds)


def train_all(
    config: SweepConfig,
    sweep_id: str,
    console: Console,
    until: Interrupt | None = None,
    *,
    kept: Sequence[Record] = (),
    since: str = "",
) -> Trained:
    """Train what is not in the store yet; records are on the disk as soon as a run has ended.

    Args:
        config: what to train, and the store that new records go to.
        sweep_id: of new records.
        console: where progress is shown.
        until: when to stop.
        kept: records of another store that count as this one's.
        since: records that started earlier count for nothing; UTC, ISO 8601, or empty.
    """
    with WorkerServer(config.run.allocator) as server:
        planned = plan(config, server)
        return train_planned(
            config, planned, server, sweep_id, console, until, kept=kept, since=since
        )


def train_planned(
    config: SweepConfig,
    planned: Sequence[PlannedCell],
    server: WorkerServer,
    sweep_id: str,
    console: Console,
    until: Interrupt | None = None,
    *,
    kept: Sequence[Record] = (),
    since: str = "",
) -> Trained:
    """Train those of some planned runs that are not in the store yet; see `train_all`."""
    here = environment.current(("cpu",), config.run.allocator, server.environment())
    tail = Tail(config.out)
    stored = [
        r for r in (*kept, *read_records(config.out, missing_ok=True)) if r.started_at >= since
    ]
    todo = missing(planned, stored, here, config)
    done = measure(config, todo, here, server, sweep_id, console, until=until, tail=tail)
    keys = {p.cell.key for p in planned}
    records = [
        r for r in (*kept, *read_records(config.out, missing_ok=True)) if r.started_at >= since
    ]
    own = tuple(
        record
        for record in records
        if record.cell.key in keys and environment.is_good(record, record.cell, here)
    )
    ended = {record.cell.key for record in own}
    cut_off = [p for p in todo if p.cell.key not in ended]
    reached = _reached(config, cut_off, here) if done.is_interrupted else None
    return Trained(records=own, is_interrupted=done.is_interrupted, reached=reached)


def _reached(
    config: SweepConfig, cut_off: Sequence[PlannedCell], here: environment.Environment
) -> Reached | None:
    """What the checkpoint of the first of them says."""
    for cell in (p.cell for p in cut_off):
        path = config.out / "checkpoints" / f"{cell.key}.pt"
        source = environment.source_of_training(cell, here)
        saved = Checkpoint(path, cell.key, source).load(torch.device("cpu"))
        if saved is not None:
            num_steps = int(cell.task.settings["num_steps"])
            return Reached(
                steps=saved["steps"][-1], num_steps=num_steps, score=max(saved["scores"])
            )
    return None
