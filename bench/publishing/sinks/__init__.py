"""Dashboards as views of the store, one run per sweep: W&B, or trackio, which needs no account.

`view` defines what a run shows, in plain values; a sink writes it in the form of its dashboard.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.core.record import Record
from bench.publishing.conclusions import sentences
from bench.publishing.config import PublishConfig
from bench.publishing.leaderboard import build_leaderboard
from bench.publishing.sinks.trackio import write_trackio
from bench.publishing.sinks.view import view_of
from bench.publishing.sinks.wandb import write_wandb
from bench.publishing.sinks.wandb_door import load as load_wandb
from bench.publishing.sinks.workspaces import make_dashboard


def load_dashboard(config: PublishConfig) -> None:
    """Import what `publish_runs` needs, which takes a second, while there is nothing else to do."""
    if config.dashboard != "trackio" and config.wandb.mode != "disabled":
        load_wandb()


def publish_runs(
    records: Sequence[Record], config: PublishConfig, sweep: str | None = None
) -> tuple[list[Path], list[str]]:
    """Write one run for each sweep in `records`, or for one of them.

    A run's id follows from the sweep's, so that publishing again replaces it. A sweep id may have
    a part after a slash, the job of a multirun: the jobs are runs of one group. Nothing here may
    stop a sweep: a failure becomes a note.
    """
    sweeps = [one for one in dict.fromkeys(r.sweep for r in records) if sweep in (None, one)]
    views = (view_of([r for r in records if r.sweep == one], one, config) for one in sweeps)
    write = write_trackio if config.dashboard == "trackio" else write_wandb
    return write(views, config)


def make_for(records: Sequence[Record], config: PublishConfig) -> tuple[Path, list[str]]:
    """Write W&B's workspace or report for a store's runs; see `make_dashboard`."""
    board = build_leaderboard(records, config.controls)
    views = [
        view_of([r for r in records if r.sweep == sweep], sweep, config)
        for sweep in dict.fromkeys(record.sweep for record in records)
    ]
    return make_dashboard(views, sentences(board), config)
