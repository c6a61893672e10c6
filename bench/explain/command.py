"""The command: train or reload models, explain their answers, score the explanations."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from bench.app.command import check_writable, run_app
from bench.app.errors import ConfigError
from bench.explain.config import read_explain_config
from bench.explain.running import Row, Run, explained_rows, runs_of
from bench.explain.table import print_table, write_files
from bench.measure.clock import now_s
from bench.plan import checked_hyperparameters
from bench.plugins import import_plugins

_WIDTH_WITHOUT_TERMINAL = 200


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run_app("explain", command, argv)


def command(composed: dict[str, Any]) -> int:
    """Do what was asked for; returns the exit code."""
    config = read_explain_config(composed)
    import_plugins(config.plugins)
    settings = {entry.label: checked_hyperparameters(entry) for entry in config.attention}
    check_writable(config.out)
    console = Console()
    console = console if console.is_terminal else Console(width=_WIDTH_WITHOUT_TERMINAL)
    started = now_s()
    runs, skipped = runs_of(config, settings)
    for sentence in skipped:
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)
    if not runs:
        raise ConfigError(
            f"Nothing is left to explain. {' '.join(skipped)} Take softmax, nala or flatten."
        )
    rows: list[Row] = []
    done: list[Run] = []
    try:
        for run, found in explained_rows(config, runs, console):
            rows += found
            done.append(run)
    except KeyboardInterrupt:
        console.print("Stopped. The same command goes on from here.")
    if rows:
        print_table(config, rows, console)
        for path in write_files(config, rows, skipped, now_s() - started):
            console.print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)
    return 0 if len(done) == len(runs) else 130
