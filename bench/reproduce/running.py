"""Run one cell or claim, keep what came out, and judge it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from bench.app.errors import ConfigError
from bench.diagnostics.weights import NoWeights
from bench.machine import environment
from bench.measure.clock import now_s, utc_now
from bench.publish.format import format_duration
from bench.reproduce.claims import Lab, Stopped, claim_function, settings_of
from bench.reproduce.papers import Claim, PaperCell, Protocol
from bench.reproduce.stored import Row, judgement, write_finding
from bench.reproduce.training import Reached, config_of, train_all
from bench.reproduce.verdicts import Judgement, Verdict
from bench.store import read_records
from bench.worker.jobs import Deadline, Interrupt


def run_cell(
    cell: PaperCell,
    out: Path,
    seeds: Sequence[int],
    budget_s: float | None,
    sweep_id: str,
    console: Console,
) -> Judgement | None:
    """Train a cell's runs that are not stored yet; None if Ctrl-C came first."""
    assert cell.protocol is not None
    until = Interrupt() if budget_s is None else Deadline(now_s() + budget_s)
    config = config_of(cell, cell.protocol, out, seeds)
    trained = train_all(config, sweep_id, console, until)
    if not trained.is_interrupted:
        return judgement(cell, read_records(out, missing_ok=True), out)  # all seeds that are there
    if budget_s is None or not (isinstance(until, Deadline) and until.is_over):
        return None
    words = (
        f"after a budget of {format_duration(budget_s)} {_so_far(trained.reached, cell.protocol)}"
    )
    return Judgement(verdict=Verdict.UNFINISHED, words=words)


def _so_far(reached: Reached | None, protocol: Protocol) -> str:
    """As ``reached 83.1 on validation examples by epoch 2.4 of 64``."""
    if reached is None:
        return "no validation score was there yet"
    steps, place = protocol.steps_per_epoch, f"step {reached.steps:,} of {reached.num_steps:,}"
    if steps:
        place = f"epoch {reached.steps / steps:.1f} of {reached.num_steps / steps:.0f}"
    return f"reached {100 * reached.score:.1f} on validation examples by {place}"


def run_function(
    entry: Claim | PaperCell, out: Path, sweep_id: str, console: Console
) -> Judgement | None:
    """Call the registered function, show its numbers and keep its finding; None after Ctrl-C.

    Raises:
        ConfigError: settings that it does not take, or a mechanism that has no weights.
    """
    function = claim_function(entry.by)
    settings = settings_of(entry.by, entry.settings)
    started = now_s()
    lab = Lab(out, sweep_id, console)
    try:
        found = function(lab, **settings)
    except (Stopped, KeyboardInterrupt):
        return None
    except NoWeights as error:
        raise ConfigError(f"{entry.id}: {error} Take it out of the entry's settings.") from error
    here = environment.current(("cpu",), "default", {})
    found = replace(
        found,
        seconds=round(now_s() - started + lab.earlier_s, 1),
        measured_at=utc_now(),
        processor=here.processor,
        commit=here.commit or "",
    )
    for row in found.rows:
        console.print(f"  {row_words(row)}", markup=False, highlight=False, soft_wrap=True)
    write_finding(out, entry.id, found)
    return judgement(entry, (), out)


def row_words(row: Row) -> str:
    """As ``nala, norms 2 to 4: -0.003 (-0.005 to -0.001)``."""
    return f"{row.name}: {row.number}{f' ({row.interval})' * bool(row.interval)}"
