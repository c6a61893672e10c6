"""Run one cell or claim, store the result, and judge it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from bench.core.cell import Cell
from bench.core.cli.errors import ConfigError
from bench.core.clock import now_s, utc_now
from bench.core.format import format_duration
from bench.core.grouping import grouped
from bench.core.record import TRAINING_VERSION, Record
from bench.measuring.machine.environment import Environment, source_of_training
from bench.measuring.tasks.checkpoint import Checkpoint
from bench.measuring.weights import NoWeights
from bench.measuring.worker.jobs import Deadline, Interrupt
from bench.studies.reproduce.claims.registry import Lab, claim_function, config_for
from bench.studies.reproduce.described import Claim, PaperCell, Protocol, criterion_of
from bench.studies.reproduce.findings import Finding, newest_finding, write_finding
from bench.studies.reproduce.looks import BudgetSpent, Looks, decide
from bench.studies.reproduce.runs import (
    BySeed,
    Run,
    next_runs,
    origins,
    records_of,
    row_of,
    scores_of,
)
from bench.studies.reproduce.settings import Reproduce
from bench.studies.reproduce.stored import judgement, read_all
from bench.studies.reproduce.verdicts import Judgement, PaperVerdict
from bench.studies.session import Session, Stopped


def run_cell(cell: PaperCell, asked: Reproduce, session: Session) -> Judgement:
    """Train a cell's runs that are not stored yet, and judge it over all stored seeds.

    The first seed trains the whole grid; the others then its best points. The verdict is
    ``unfinished`` if the budget ends first.

    Raises:
        Stopped: by Ctrl-C.
    """
    protocol, budget_s = cell.protocol, asked.budget
    assert protocol is not None
    until = Interrupt() if budget_s is None else Deadline(now_s() + budget_s)
    since = utc_now() if asked.force else ""

    def own() -> BySeed[Record]:
        return _of_today(cell, [r for r in read_all(asked.stores) if r.started_at >= since])

    if found := [record for runs in own().values() for record in runs.values()]:
        session.say(
            f"  {len(found)} of its runs are stored: {origins(found)}; force=true repeats them"
        )
    tried: set[tuple[int, str]] = set()  # a run that failed is not repeated; its record says why
    while todo := [
        (seed, run)
        for seed, run in next_runs(protocol, scores_of(own()), asked.seed)
        if (seed, run.label) not in tried
    ]:
        tried |= {(seed, run.label) for seed, run in todo}
        if so_far := _train(cell, todo, asked, session, until, since):
            words = f"after a budget of {format_duration(budget_s or 0.0)} {so_far}"
            return Judgement(PaperVerdict.UNFINISHED, words)
    return judgement(cell, read_all(asked.stores), asked.stores)


def _of_today(cell: PaperCell, records: Sequence[Record]) -> BySeed[Record]:
    """A cell's records by seed; empty if their training version is old: they are trained again."""
    own = records_of(cell, records)
    versions = {record.training_version for runs in own.values() for record in runs.values()}
    return own if versions == {TRAINING_VERSION} else {}


def _train(
    cell: PaperCell,
    todo: Sequence[tuple[int, Run]],
    asked: Reproduce,
    session: Session,
    until: Interrupt,
    since: str,
) -> str:
    """Train runs, seeds that need the same ones in one sweep; empty if all of them ended.

    Returns:
        How far the first run came that the end of the budget cut off.

    Raises:
        Stopped: by Ctrl-C.
    """
    assert cell.protocol is not None
    by_seed = {
        seed: {run.label: run.task for _, run in own}
        for seed, own in grouped(todo, lambda one: one[0]).items()
    }
    for labels, seeds in grouped(by_seed, lambda seed: tuple(by_seed[seed])).items():
        tasks = {label: by_seed[seeds[0]][label] for label in labels}
        config = config_for(asked.out, {cell.attention: row_of(cell)}, tasks, seeds)
        trained = session.train(config, session.plan(config), until=until, since=since)
        if trained.is_interrupted:
            if not (isinstance(until, Deadline) and until.is_over):
                raise Stopped
            here = session.here(config, ("cpu",))
            return reached(asked.out, trained.cut_off, here, cell.protocol)
    return ""


def reached(out: Path, cut_off: Sequence[Cell], here: Environment, protocol: Protocol) -> str:
    """As ``reached 83.1 on validation examples by epoch 2.4 of 64``, of the first run with a score.

    Args:
        out: where records and checkpoints go.
        cut_off: runs that did not end.
        here: the machine.
        protocol: of the runs.

    Raises:
        CheckpointRefused: a checkpoint cannot be read.
    """
    for cell in cut_off:
        path, source = out / "checkpoints" / f"{cell.key}.pt", source_of_training(cell, here)
        saved = Checkpoint(path, cell.key, source).load(torch.device("cpu"))
        if saved is not None:
            steps, num_steps = saved["steps"][-1], int(cell.task.settings["num_steps"])
            place = f"step {steps:,} of {num_steps:,}"
            if each := protocol.steps_per_epoch:
                place = f"epoch {steps / each:.1f} of {num_steps / each:.0f}"
            return f"reached {100 * max(saved['scores']):.1f} on validation examples by {place}"
    return "no validation score was there yet"


def run_function(
    entry: Claim | PaperCell, asked: Reproduce, session: Session, looks: Looks | None = None
) -> Judgement:
    """Call the function of a claim or of a measured cell, store what it finds, and judge it.

    A finding stored under the same criterion and training version is shown again, unless `force` is
    set. With `looks`, it counts only if it was made with the same ones.

    Args:
        entry: a claim, or a cell that a function measures.
        asked: settings of the command: stores, `force` and the budget.
        session: trains, and prints the numbers.
        looks: numbers of seeds after which a claim that trains is tested; None: the entry's own.

    Raises:
        ConfigError: settings that it does not take, or a mechanism that has no weights.
        Stopped: by Ctrl-C.
    """
    made_by = (criterion_of(entry), TRAINING_VERSION)
    stored = newest_finding(asked.stores, entry.id)
    if (
        stored is not None
        and not asked.force
        and (stored.criterion, stored.training_version) == made_by
        and (looks is None or stored.looks == looks.numbers)
    ):
        session.say(f"  stored: {stored.origin}; force=true measures it again")
        _say_rows(stored, session)
        return judgement(entry, (), asked.stores)
    function, started = claim_function(entry.by or entry.id), now_s()
    budget_s = asked.budget
    lab = Lab(
        session,
        asked.out,
        kept=read_all((asked.kept,)),
        since=utc_now() if asked.force else "",
        until=None if budget_s is None else Deadline(started + budget_s),
    )
    try:
        inspect.signature(function).bind(lab, **entry.settings)
    except TypeError as error:
        raise ConfigError(
            f"{entry.id}: its settings are wrong for its function: {error}."
        ) from error
    if looks is not None:
        session.say(f"  {looks}")
    after = f"after a budget of {format_duration(budget_s or 0.0)}"
    try:
        found = (
            decide(function, lab, entry.settings, looks)
            if looks
            else function(lab, **entry.settings)
        )
    except Stopped:
        if not lab.is_over:
            raise
        return Judgement(PaperVerdict.UNFINISHED, f"{after}; the same command goes on from here")
    except BudgetSpent as spent:
        return Judgement(PaperVerdict.UNFINISHED, f"{after} {spent}")
    except NoWeights as error:
        raise ConfigError(f"{entry.id}: {error} Take it out of the entry's settings.") from error
    here = session.machine
    criterion, training_version = made_by
    found = replace(
        found,
        seconds=round(now_s() - started + sum(lab.earlier.values()), 1),
        measured_at=utc_now(),
        processor=" and ".join(dict.fromkeys(own for own, _ in lab.used)) or here.processor,
        commit=(here.commit or "") + "*" * bool(here.is_dirty),
        trained_commits=tuple(dict.fromkeys(commit for _, commit in lab.used)),
        criterion=criterion,
        training_version=training_version,
    )
    _say_rows(found, session)
    write_finding(asked.out, entry.id, found)
    return judgement(entry, (), asked.stores)


def _say_rows(found: Finding, session: Session) -> None:
    for row in found.rows:
        session.say(f"  {row}")
