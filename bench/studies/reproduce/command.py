"""The command: list what is described, or run what is asked for and judge it."""

from __future__ import annotations

from collections.abc import Sequence

from bench.core.cli.errors import ConfigError
from bench.core.cli.files import check_writable
from bench.core.format import format_duration
from bench.core.looks import Looks
from bench.studies.reproduce.described import Claim, Contradiction, Described, PaperCell
from bench.studies.reproduce.page import write_page
from bench.studies.reproduce.papers import FOLDER, read_papers
from bench.studies.reproduce.power import print_power
from bench.studies.reproduce.settings import Reproduce
from bench.studies.reproduce.stored import judgement, keep_all, read_all
from bench.studies.reproduce.table import in_words, print_list, printed_value
from bench.studies.reproduce.verdicts import Judgement, PaperVerdict
from bench.studies.session import Session, run_study

EXPENSIVE_S = 30 * 60.0
"""Cost in seconds above which a budget is required: an id alone must not start hours of work."""

_CONTRADICTS = (PaperVerdict.DIFFERS, PaperVerdict.DISAGREES, PaperVerdict.DOES_NOT_HOLD)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run_study("reproduce", Reproduce, study, argv, writes=())


def study(asked: Reproduce, session: Session) -> int:
    """List, run, publish or plan seeds, as the settings say; returns the exit code."""
    papers = read_papers((FOLDER, *([asked.papers] if asked.papers else [])))
    if asked.power:
        return print_power(asked.power, asked.stores, session.console)
    if asked.page or asked.check:
        if not asked.check:
            _keep_all(asked, session)
        return write_page(papers, asked.keep, asked.docs, is_check=asked.check)
    if not asked.cell:
        shown = [entry for entry in papers.entries.values() if _is_wanted(entry, asked)]
        if not shown:
            raise ConfigError(f"Nothing described matches kind={asked.kind} find={asked.find}.")
        print_list(session.console, shown, read_all(asked.stores), asked.stores)
        return 0
    check_writable(asked.out)
    entries = [papers.find(name) for name in asked.cell]
    for entry in entries:
        _refuse(entry, asked)
        if asked.until and not _compares_arms(entry):
            able = ", ".join(one.id for one in papers.entries.values() if _compares_arms(one))
            raise ConfigError(
                f"until={asked.until} adds seeds of training, and cell={entry.id} is no claim that "
                f"compares trained arms. These are: {able}."
            )
    worst = 0
    for entry in entries:
        worst = max(worst, _run(entry, asked, session))
        if session.is_stopped:
            break
    return worst


def _keep_all(asked: Reproduce, session: Session) -> None:
    """Copy what `out` has and `keep` lacks into `keep`, which is in git, and name each file."""
    if asked.out.resolve() == asked.keep.resolve():
        return
    check_writable(asked.keep)
    for file in keep_all(asked.out, asked.keep):
        session.say(f"kept {file}")


def _is_wanted(entry: Described, asked: Reproduce) -> bool:
    if asked.kind is not None and entry.kind != asked.kind:
        return False
    return asked.find is None or asked.find.lower() in f"{entry.paper} {entry.id}".lower()


def _compares_arms(entry: Described) -> bool:
    """True for a claim that compares trained arms: its settings have `seeds`."""
    return isinstance(entry, Claim) and "seeds" in entry.settings


def _refuse(entry: Described, asked: Reproduce) -> None:
    """Refuse an entry that cannot be run as requested, before anything is run."""
    if isinstance(entry, Contradiction):
        cells = f"cell={entry.of[0]}" if entry.of else "kind=cell"
        raise ConfigError(
            f"cell={entry.id} is a contradiction between published values ({printed_value(entry)})"
            f" and is not run. Try one of its cells, e.g. {cells}."
        )
    is_trained = isinstance(entry, PaperCell) and not entry.not_comparable
    if is_trained and entry.cost_s > EXPENSIVE_S and asked.budget is None:
        raise ConfigError(
            f"cell={entry.id} costs about {format_duration(entry.cost_s)} on two cores. Say "
            "budget=20m to see how far it gets, or a larger one; the same command goes on."
        )


def _run(entry: Described, asked: Reproduce, session: Session) -> int:
    # Imported late, because it imports torch, which takes seconds and a list does not need.
    from bench.studies.reproduce.running import run_cell, run_function

    print_entry(entry, session)
    found: Judgement | None = None
    if isinstance(entry, PaperCell) and entry.not_comparable:
        found = judgement(entry, (), asked.stores)
    elif isinstance(entry, Claim) or (isinstance(entry, PaperCell) and entry.by):
        found = run_function(entry, asked, session, Looks() if asked.until else None)
    elif isinstance(entry, PaperCell):
        found = run_cell(entry, asked, session)
    if found is None:
        session.is_stopped = True
        session.say("Stopped. The same command goes on from here.")
        return 0
    session.say(in_words(found))
    return int(found.verdict in _CONTRADICTS)


def print_entry(entry: Described, session: Session) -> None:
    """Print the entry about to be run, its source, and how it differs from the published one."""
    lines: Sequence[str] = ()
    if isinstance(entry, Claim):
        refuted = f"refuted by: {entry.refuted_by}" if entry.refuted_by else "refuted by: not said"
        lines = (f"{entry.paper}, {entry.where}: {entry.sentence}", refuted)
    elif isinstance(entry, PaperCell):
        protocol = entry.protocol.deviations if entry.protocol else ()
        code = entry.protocol.code if entry.protocol else None
        lines = (
            f"{entry.paper}, {entry.where}: {entry.what}",
            f"published {printed_value(entry)} ({entry.obtained}), "
            f"the same within {100 * entry.tolerance:g}",
            *((f"follows {code}",) if code else ()),
            *(f"- {line}" for line in (*protocol, *entry.deviations)),
        )
    for line in (entry.id, *lines):
        session.say(line)
