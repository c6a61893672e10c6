"""The command: train or reload models, explain their answers, score the explanations."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from bench.app.command import run_app
from bench.app.errors import ConfigError
from bench.app.files import check_writable
from bench.explain.config import read_explain_config
from bench.explain.page import write_files
from bench.explain.running import Row, Run, explained_rows, runs_of
from bench.explain.table import basis, tables
from bench.measure.clock import now_s
from bench.plan import checked_hyperparameters
from bench.plugins import import_plugins
from bench.publish.format import quantity
from bench.publish.markdown import table_lines

_WIDTH_WITHOUT_TERMINAL = 200


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run_app("explain", command, argv)


def command(composed: dict[str, Any]) -> int:
    """Do what was asked for; returns the exit code."""
    config = read_explain_config(composed)
    import_plugins(config.plugins)
    settings = {entry.label: checked_hyperparameters(entry) for entry in config.attention}
    for folder in (config.out, config.docs):
        check_writable(folder)
    console = Console()
    console = console if console.is_terminal else Console(width=_WIDTH_WITHOUT_TERMINAL)
    started = now_s()
    runs, notes = runs_of(config, settings)
    for sentence in notes:
        _say(console, sentence)
    if not runs:
        raise ConfigError(
            f"Nothing is left to explain. {' '.join(notes)} Take softmax, nala or flatten."
        )
    rows: list[Row] = []
    done: list[Run] = []
    try:
        for run, found in explained_rows(config, runs, console):
            done.append(run)
            if isinstance(found, str):
                _say(console, found)
                notes.append(found)
            else:
                rows += found
    except KeyboardInterrupt:
        _say(console, "Stopped. The same command goes on from here.")
        notes.append(f"Stopped after {len(done)} of {quantity(len(runs), 'model')}.")
    if rows:
        for table in tables(config, rows):
            _say(console, f"{table.title}\n{table_lines(table)}")
        _say(console, basis(config, rows))
        for path in write_files(config, rows, notes, now_s() - started):
            _say(console, f"wrote {path}")
    return 0 if len(done) == len(runs) else 130


def _say(console: Console, words: str) -> None:
    console.print(words, markup=False, highlight=False, soft_wrap=True)
