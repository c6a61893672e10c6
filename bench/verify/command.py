"""The command: one kind of proof, on a console that is wide enough for its table."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from bench.app.command import run_app
from bench.verify.config import read_verify_config
from bench.verify.conformance import run_conformance
from bench.verify.flops import run_flops
from bench.verify.numerics import run_numerics
from bench.verify.outputs import run

_WIDTH_WITHOUT_TERMINAL = 120
_WIDTH_OF_FLOPS = 160
_WIDTH_OF_BADGES = 160


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run_app("verify", command, argv, out_is_file=True)


def command(composed: dict[str, Any]) -> int:
    """Prove what was asked for; returns the exit code."""
    config = read_verify_config(composed)
    if config.flops:
        return run_flops(config, _console(_WIDTH_OF_FLOPS))
    if config.conformance:
        return run_conformance(config, _console(_WIDTH_OF_BADGES))
    if config.numerics:
        return run_numerics(config, _console(_WIDTH_WITHOUT_TERMINAL))
    return run(config, _console(_WIDTH_WITHOUT_TERMINAL))


def _console(width: int) -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=width)
