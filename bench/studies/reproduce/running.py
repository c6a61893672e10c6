"""Run one cell or claim, store the result, and judge it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.core.cli.errors import ConfigError
from bench.core.clock import now_s, utc_now
from bench.core.format import format_duration
from bench.core.looks import Looks
from bench.core.record import TRAINING_VERSION, Record
from bench.measuring.weights import NoWeights
from bench.measuring.worker.jobs import Deadline, Interrupt
from bench.studies.reproduce.claims import Lab, claim_function, settings_of
from bench.studies.reproduce.claims.sequential import BudgetSpent, decide, plan_words
from bench.studies.reproduce.described import Claim, PaperCell, Protocol, criterion_of
from bench.studies.reproduce.findings import Finding, FindingRow, newest_finding, write_finding
from bench.studies.reproduce.runs import (
    Run,
    VariantAndPoint,
    next_runs,
    origins,
    records_of,
    scores_of,
)
from bench.studies.reproduce.settings import Reproduce
from bench.studies.reproduce.stored import judgement, read_all
from bench.studies.reproduce.training import Reached, config_of, reached
from bench.studies.reproduce.verdicts import Judgement, PaperVerdict
from bench.studies.session import Session, Stopped


def run_cell(cell: PaperCell, asked: Reproduce, session: Session) -> Judgement | None:
    """Train a cell's runs that are not stored yet; None if Ctrl-C came first.

    The first seed trains the whole grid; the others then its best points. The verdict is
    ``unfinished`` if the budget ends first.
    """
    protocol = cell.protocol
    assert protocol is not None
    budget_s = asked.budget
    until = Interrupt() if budget_s is None else Deadline(now_s() + budget_s)
    since = utc_now() if asked.force else ""
    stored = _of_today(cell, read_all(asked.stores))
    found = [record for runs in stored.values() for record in runs.values()]
    if found and not asked.force:
        session.say(
            f"  {len(found)} of its runs are stored: {origins(found)}; force=true repeats them"
        )
    tried: set[tuple[int, str]] = set()
    while True:
        records = [r for r in read_all(asked.stores) if r.started_at >= since]
        own = _of_today(cell, records)
        wanted = next_runs(protocol, scores_of(own), asked.seed)
        todo = [(seed, run) for seed, run in wanted if (seed, run.label) not in tried]
        if not todo:
            break  # a run that failed is not repeated; its record has the reason
        tried |= {(seed, run.label) for seed, run in todo}
        cut_off = _train(cell, protocol, todo, asked.out, session, until, since)
        if cut_off is not None:
            if budget_s is None or not (isinstance(until, Deadline) and until.is_over):
                return None
            so_far = _so_far(cut_off.reached, protocol)
            words = f"after a budget of {format_duration(budget_s)} {so_far}"
            return Judgement(verdict=PaperVerdict.UNFINISHED, words=words)
    return judgement(cell, read_all(asked.stores), asked.stores)  # over all stored seeds


def _of_today(
    cell: PaperCell, records: Sequence[Record]
) -> dict[int, dict[VariantAndPoint, Record]]:
    """A cell's records by seed; empty if their training version is old: they are trained again."""
    own = records_of(cell, records)
    is_old = any(
        record.training_version != TRAINING_VERSION
        for runs in own.values()
        for record in runs.values()
    )
    return {} if is_old else own


@dataclass(frozen=True)
class CutOff:
    """Interrupted training, and the progress of the run that it was in, if that is known."""

    reached: Reached | None


def _train(
    cell: PaperCell,
    protocol: Protocol,
    todo: Sequence[tuple[int, Run]],
    out: Path,
    session: Session,
    until: Interrupt,
    since: str,
) -> CutOff | None:
    """Train runs, seeds that need the same ones in one sweep; None if all of them ended."""
    by_seed: dict[int, list[Run]] = {}
    for seed, run in todo:
        by_seed.setdefault(seed, []).append(run)
    groups: dict[tuple[str, ...], list[int]] = {}
    for seed, runs in by_seed.items():
        groups.setdefault(tuple(run.label for run in runs), []).append(seed)
    for seeds in groups.values():
        config = config_of(cell, protocol, out, seeds, by_seed[seeds[0]])
        trained = session.train(config, session.plan(config), until=until, since=since)
        if trained.is_interrupted:
            here = session.here(config, ("cpu",))
            return CutOff(reached(config, trained.cut_off, here))
    return None


def _so_far(reached: Reached | None, protocol: Protocol) -> str:
    """As ``reached 83.1 on validation examples by epoch 2.4 of 64``."""
    if reached is None:
        return "no validation score was there yet"
    steps, place = protocol.steps_per_epoch, f"step {reached.steps:,} of {reached.num_steps:,}"
    if steps:
        place = f"epoch {reached.steps / steps:.1f} of {reached.num_steps / steps:.0f}"
    return f"reached {100 * reached.score:.1f} on validation examples by {place}"


def run_function(
    entry: Claim | PaperCell, asked: Reproduce, session: Session, looks: Looks | None = None
) -> Judgement | None:
    """Call the registered function, show its numbers and keep its finding; None after Ctrl-C.

    A finding stored under the same criterion and training version is shown again, unless `force` is
    set. With `looks`, it counts only if it was made with the same ones.

    Args:
        entry: a claim, or a cell that a function measures.
        asked: settings of the command: stores, `force`, and the budget of looks.
        session: trains, and prints the numbers.
        looks: numbers of seeds after which a claim that trains is tested; None: the entry's own.

    Raises:
        ConfigError: settings that it does not take, or a mechanism that has no weights.
    """
    criterion, budget_s = criterion_of(entry), asked.budget if looks else None
    stored = newest_finding(asked.stores, entry.id)
    is_same = stored is not None and (stored.criterion, stored.training_version) == (
        criterion,
        TRAINING_VERSION,
    )
    is_same = is_same and (looks is None or stored is None or stored.looks == looks.numbers)
    if stored is not None and is_same and not asked.force:
        session.say(f"  stored: {stored.origin}; force=true measures it again")
        _say_rows(stored, session)
        return judgement(entry, (), asked.stores)
    function = claim_function(entry.by)
    settings = settings_of(entry.by, entry.settings)
    started = now_s()
    kept = read_all((asked.keep,))
    lab = Lab(
        session,
        asked.out,
        kept=kept,
        since=utc_now() if asked.force else "",
        until=None if budget_s is None else Deadline(started + budget_s),
    )
    if looks is not None:
        session.say(f"  {plan_words(looks)}")
    try:
        found = decide(function, lab, settings, looks) if looks else function(lab, **settings)
    except BudgetSpent as spent:
        after = f"after a budget of {format_duration(budget_s or 0.0)}"
        return Judgement(verdict=PaperVerdict.UNFINISHED, words=f"{after} {spent}")
    except (Stopped, KeyboardInterrupt):
        return None
    except NoWeights as error:
        raise ConfigError(f"{entry.id}: {error} Take it out of the entry's settings.") from error
    here = session.machine
    found = replace(
        found,
        seconds=round(now_s() - started + lab.earlier_s, 1),
        measured_at=utc_now(),
        processor=here.processor,
        commit=here.commit or "",
        criterion=criterion,
        training_version=TRAINING_VERSION,
    )
    _say_rows(found, session)
    write_finding(asked.out, entry.id, found)
    return judgement(entry, (), asked.stores)


def _say_rows(found: Finding, session: Session) -> None:
    for row in found.rows:
        session.say(f"  {row_words(row)}")


def row_words(row: FindingRow) -> str:
    """As ``nala, norms 2 to 4: -0.003 (-0.005 to -0.001); rate 0.003 (searched), 3 seeds``."""
    words = f"{row.name}: {row.number}{f' ({row.interval})' * bool(row.interval)}"
    return f"{words}; {row.training}" if row.training else words
