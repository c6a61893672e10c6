"""Run one cell or claim, keep what came out, and judge it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from bench.app.errors import ConfigError
from bench.looks import Looks
from bench.machine import environment
from bench.measure.clock import now_s, utc_now
from bench.publish.format import format_duration
from bench.record import TRAINING_VERSION, Record
from bench.reproduce.claims import Lab, Stopped, claim_function, settings_of
from bench.reproduce.claims.sequential import BudgetSpent, decide, plan_words
from bench.reproduce.described import Claim, PaperCell, Protocol, criterion_of
from bench.reproduce.findings import Finding, Row, newest_finding, write_finding
from bench.reproduce.runs import (
    Place,
    Run,
    next_runs,
    origins,
    records_of,
    scores_of,
)
from bench.reproduce.stored import judgement, read_all
from bench.reproduce.training import Reached, Trained, config_of, train_all
from bench.reproduce.verdicts import Judgement, Verdict
from bench.weights import NoWeights
from bench.worker.jobs import Deadline, Interrupt


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Where runs are kept and shown.

    Attributes:
        keep: a store that is only read.
        out: the store that new records and findings go to.
        sweep_id: of new records.
        console: where progress is shown.
        is_forced: train and measure again what is stored.
    """

    keep: Path
    out: Path
    sweep_id: str
    console: Console
    is_forced: bool = False

    @property
    def stores(self) -> tuple[Path, Path]:
        """All that is read."""
        return self.keep, self.out

    def say(self, words: str) -> None:
        """Print a line as it is."""
        self.console.print(words, markup=False, highlight=False, soft_wrap=True)


def run_cell(
    cell: PaperCell, setup: Setup, seeds: Sequence[int], budget_s: float | None
) -> Judgement | None:
    """Train a cell's runs that are not stored yet; None if Ctrl-C came first.

    The first seed trains the whole grid; the others then its best points.
    """
    protocol = cell.protocol
    assert protocol is not None
    until = Interrupt() if budget_s is None else Deadline(now_s() + budget_s)
    since = utc_now() if setup.is_forced else ""
    stored = _of_today(cell, read_all(setup.stores))
    found = [record for runs in stored.values() for record in runs.values()]
    if found and not setup.is_forced:
        setup.say(
            f"  {len(found)} of its runs are stored: {origins(found)}; force=true repeats them"
        )
    tried: set[tuple[int, str]] = set()
    while True:
        records = [r for r in read_all(setup.stores) if r.started_at >= since]
        own = _of_today(cell, records)
        wanted = next_runs(protocol, scores_of(own), seeds)
        todo = [(seed, run) for seed, run in wanted if (seed, run.label) not in tried]
        if not todo:
            break  # what was tried and has no score yet has its reason in the records
        tried |= {(seed, run.label) for seed, run in todo}
        trained = _train(cell, protocol, todo, setup, until, since)
        if trained.is_interrupted:
            if budget_s is None or not (isinstance(until, Deadline) and until.is_over):
                return None
            so_far = _so_far(trained.reached, protocol)
            words = f"after a budget of {format_duration(budget_s)} {so_far}"
            return Judgement(verdict=Verdict.UNFINISHED, words=words)
    return judgement(cell, read_all(setup.stores), setup.stores)  # all seeds that are there


def _of_today(cell: PaperCell, records: Sequence[Record]) -> dict[int, dict[Place, Record]]:
    """A cell's records by seed; none of an older training version, which are trained again."""
    own = records_of(cell, records)
    is_old = any(
        record.training_version != TRAINING_VERSION
        for runs in own.values()
        for record in runs.values()
    )
    return {} if is_old else own


def _train(
    cell: PaperCell,
    protocol: Protocol,
    todo: Sequence[tuple[int, Run]],
    setup: Setup,
    until: Interrupt,
    since: str,
) -> Trained:
    """Train runs, those of seeds that need the same ones together."""
    by_seed: dict[int, list[Run]] = {}
    for seed, run in todo:
        by_seed.setdefault(seed, []).append(run)
    groups: dict[tuple[str, ...], list[int]] = {}
    for seed, runs in by_seed.items():
        groups.setdefault(tuple(run.label for run in runs), []).append(seed)
    trained = Trained(records=())
    for seeds in groups.values():
        config = config_of(cell, protocol, setup.out, seeds, by_seed[seeds[0]])
        trained = train_all(config, setup.sweep_id, setup.console, until, since=since)
        if trained.is_interrupted:
            break
    return trained


def _so_far(reached: Reached | None, protocol: Protocol) -> str:
    """As ``reached 83.1 on validation examples by epoch 2.4 of 64``."""
    if reached is None:
        return "no validation score was there yet"
    steps, place = protocol.steps_per_epoch, f"step {reached.steps:,} of {reached.num_steps:,}"
    if steps:
        place = f"epoch {reached.steps / steps:.1f} of {reached.num_steps / steps:.0f}"
    return f"reached {100 * reached.score:.1f} on validation examples by {place}"


def run_function(
    entry: Claim | PaperCell,
    setup: Setup,
    looks: Looks | None = None,
    budget_s: float | None = None,
) -> Judgement | None:
    """Call the registered function, show its numbers and keep its finding; None after Ctrl-C.

    A finding that is stored under the same criterion is shown as it is, unless forced. Where looks
    are asked for, it counts only if it ended the same looks.

    Args:
        entry: a claim, or a cell that a function measures.
        setup: where runs are kept and shown.
        looks: numbers of seeds at which a claim that trains is looked at; None for its entry's.
        budget_s: after which no further look is taken, and training stops; None for none.

    Raises:
        ConfigError: settings that it does not take, or a mechanism that has no weights.
    """
    criterion = criterion_of(entry)
    stored = newest_finding(setup.stores, entry.id)
    is_same = stored is not None and (stored.criterion, stored.training_version) == (
        criterion,
        TRAINING_VERSION,
    )
    is_same = is_same and (looks is None or stored is None or stored.looks == looks.numbers)
    if stored is not None and is_same and not setup.is_forced:
        setup.say(f"  stored: {stored.origin}; force=true measures it again")
        _say_rows(stored, setup)
        return judgement(entry, (), setup.stores)
    function = claim_function(entry.by)
    settings = settings_of(entry.by, entry.settings)
    started = now_s()
    kept = read_all((setup.keep,))
    lab = Lab(
        setup.out,
        setup.sweep_id,
        setup.console,
        kept=kept,
        since=utc_now() if setup.is_forced else "",
        until=None if budget_s is None else Deadline(started + budget_s),
    )
    if looks is not None:
        setup.say(f"  {plan_words(looks)}")
    try:
        found = decide(function, lab, settings, looks) if looks else function(lab, **settings)
    except BudgetSpent as spent:
        after = f"after a budget of {format_duration(budget_s or 0.0)}"
        return Judgement(verdict=Verdict.UNFINISHED, words=f"{after} {spent}")
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
        criterion=criterion,
        training_version=TRAINING_VERSION,
    )
    _say_rows(found, setup)
    write_finding(setup.out, entry.id, found)
    return judgement(entry, (), setup.stores)


def _say_rows(found: Finding, setup: Setup) -> None:
    for row in found.rows:
        setup.say(f"  {row_words(row)}")


def row_words(row: Row) -> str:
    """As ``nala, norms 2 to 4: -0.003 (-0.005 to -0.001); rate 0.003 (searched), 3 seeds``."""
    words = f"{row.name}: {row.number}{f' ({row.interval})' * bool(row.interval)}"
    return f"{words}; {row.training}" if row.training else words
