"""The command `regress`: choose two sides, compare them, then print and write the rows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.text import Text

from attentions.catalogue import registered_names
from bench.core.cli.command import read_yaml
from bench.core.cli.errors import ConfigError
from bench.core.cli.files import check_writable
from bench.core.cli.stored_files import regular_files
from bench.core.clock import utc_now
from bench.core.format import quantity
from bench.core.progress import SweepProgress
from bench.core.record import Record, Status
from bench.measuring.costs.estimate import expected_s
from bench.measuring.machine.environment import Environment
from bench.measuring.plan import PlannedCell, plan
from bench.measuring.run import Runner
from bench.measuring.worker.jobs import Interrupt, Interrupted, Jobs
from bench.studies.gate import trees
from bench.studies.gate.accept import accepted_in, check_entries, settle
from bench.studies.gate.baselines import (
    append_baseline,
    baselines_folder,
    baselines_of,
    read_baselines,
)
from bench.studies.gate.commits import compare_commits
from bench.studies.gate.config import GateConfig, read_gate_config
from bench.studies.gate.exports import write_exports
from bench.studies.gate.history import print_history, steps
from bench.studies.gate.publish import Sides, print_rows, write_rows
from bench.studies.gate.rows import ACCURACY, LATENCY, LOSS, GateRow, exit_code
from bench.studies.gate.sources import read_side
from bench.studies.gate.stored import compare_stored
from bench.studies.session import STOPPED, Session


def regress(composed: dict[str, Any]) -> int:
    """Compare, print and write; returns the exit code, 1 if there is a regression."""
    config = read_gate_config(composed)
    with Session("regress", composed) as session:
        if config.history:
            return show_history(config, session)
        check_writable(config.sweep.out)
        if config.store:
            return store_baseline(config, session)
        if config.baseline is not None:
            return against_stored(config, config.baseline, session)
        return against_commit(config, session)


def against_commit(config: GateConfig, session: Session) -> int:
    """Compare this tree with a commit, both in one process; Ctrl-C keeps what was compared."""
    tree = trees.current_tree()
    commit = trees.resolve(config.base) if config.base else trees.default_base()
    planned = plan(config.sweep)
    cells = [p.cell for p in planned if p.unsupported is None]
    if not cells:
        raise ConfigError(f"Nothing to compare: {' '.join(_unsupported(planned))}")
    check_entries(config.accept, {cell.entry for cell in cells})
    accepted_in(config.sweep.out).read(missing_ok=True)  # damage is refused before the timing
    server = session.server(config.sweep)
    rows: list[GateRow] = []
    is_stopped = False

    def say(words: str) -> None:
        status.update(Text(words))
        if not session.console.is_terminal:
            session.say(f"… {words}")

    # Outermost, so that Ctrl-C at any point still ends the server and removes the worktree.
    with Interrupt() as interrupt:
        try:
            with trees.worktree(commit) as base, server, session.console.status("") as status:
                jobs = Jobs(server, config.sweep.run.timeout_s, interrupt)
                for row in compare_commits(
                    cells,
                    base,
                    lambda label: base_entry(base, label),
                    jobs,
                    config.effort,
                    config.family_error,
                    say,
                ):
                    rows.append(row)
        except (Interrupted, ConfigError) as error:
            # Ctrl-C also ends a git that is making the worktree, which raises a ConfigError.
            if isinstance(error, ConfigError) and not interrupt.is_asked:
                raise
            if not rows:
                session.say("Stopped; nothing was compared yet.")
                return STOPPED
            is_stopped = True
    dirt = " with uncommitted changes" if tree.is_dirty else ""
    notes = _unsupported(planned)
    if is_stopped:
        done = sum(row.channel in (LATENCY, ACCURACY, LOSS) for row in rows)
        notes.append(f"Stopped after {done} of {len(cells)} cells; the others were not compared.")
    sides = Sides(base=commit[:12], current=tree.commit[:12] + dirt, notes=tuple(notes))
    settled = _settle(config, rows, session, base_commit=commit, commit=tree.commit)
    here = session.here(config.sweep, (cell.device for cell in cells))
    code = _finish(config, settled, sides, session, here)
    return STOPPED if is_stopped else code


def base_entry(base: trees.Tree, label: str) -> dict[str, Any] | None:
    """An entry as the base tree defines it; None if it has no such entry.

    Hyperparameters that its YAML leaves out (all of them if it has no YAML) are the defaults of the
    base's constructor.
    """
    file = base.root / "conf" / "attention" / f"{label}.yaml"
    if not os.path.exists(file):
        return {"mechanism": label} if label in registered_names(base.root / "attentions") else None
    entry = read_yaml(file).get(label)
    return entry if isinstance(entry, dict) and "mechanism" in entry else None


def _unsupported(planned: Sequence[PlannedCell]) -> list[str]:
    """A note on the cells that this tree cannot run, with the reasons; empty if there are none."""
    reasons = [p.unsupported for p in planned if p.unsupported is not None]
    if not reasons:
        return []
    each = " ".join(dict.fromkeys(reasons))
    return [f"{len(reasons)} of {len(planned)} cells are not compared, because unsupported: {each}"]


def against_stored(config: GateConfig, baseline: Path, session: Session) -> int:
    """Compare two sets of stored numbers; nothing is measured."""
    base = read_side("baseline", baseline)
    current = read_side("current", config.current or config.sweep.out)
    check_entries(config.accept, base.entries | current.entries)
    rows = compare_stored(
        base.baselines, current.baselines, config.stored_threshold, config.family_error
    )
    notes = []
    if base.torch != current.torch:
        versions = [", ".join(sorted(side.torch)) or "unknown" for side in (base, current)]
        notes.append(f"torch differs ({' against '.join(versions)}): what moved may be its doing.")
    sides = Sides(base=base.words, current=current.words, notes=tuple(notes))
    settled = _settle(config, rows, session, base_commit=base.commit, commit=current.commit)
    return _finish(config, settled, sides, session)


def _settle(
    config: GateConfig,
    rows: Sequence[GateRow],
    session: Session,
    *,
    base_commit: str | None,
    commit: str | None,
) -> tuple[GateRow, ...]:
    """Mark the rows whose growth is accepted, now or earlier, and store what is accepted now."""
    file = accepted_in(config.sweep.out)
    kept = file.read(missing_ok=True)
    settled = settle(
        rows, config.accept, kept, base_commit=base_commit, commit=commit, date=utc_now()
    )
    for idle in settled.idle:
        session.say(f"accept={idle} matches no growth; nothing was accepted by it.")
    if settled.new:
        file.write([*kept, *settled.new])
        session.say(f"Newly accepted numbers: {len(settled.new)}; kept in {file.path}.")
    return settled.rows


def _finish(
    config: GateConfig,
    rows: Sequence[GateRow],
    sides: Sides,
    session: Session,
    here: Environment | None = None,
) -> int:
    """Print and write; returns the exit code. `here` is given if both sides were timed now."""
    print_rows(rows, sides, session.console)
    files = write_exports(rows, config.sweep.out, here, utc_now())
    for file in [*write_rows(rows, sides, config.sweep.out), *files]:
        session.say(f"Wrote {file}")
    return exit_code(rows)


def store_baseline(config: GateConfig, session: Session) -> int:
    """Measure as a sweep does, and add a line to the baselines of this class of machines."""
    tree = trees.current_tree()
    if tree.is_dirty:
        raise ConfigError(
            f"{' or '.join(trees.MEASURED)} has uncommitted changes, and a baseline names the "
            "commit that it was measured at. Commit them first."
        )
    planned = [p for p in plan(config.sweep) if p.unsupported is None]
    here = session.here(config.sweep, (p.cell.device for p in planned))
    here = replace(here, commit=tree.commit)
    try:
        records = _measure(config, planned, here, session)
    except Interrupted:
        session.say("Stopped; nothing is stored.")
        return STOPPED
    for baseline in baselines_of(sorted(records, key=lambda record: record.cell.device)):
        file = append_baseline(baseline, config.sweep.out)
        cells = quantity(len(baseline.cells), "cell")
        session.say(f"Added {cells} of commit {tree.commit[:12]} to {file}")
    failed = [record for record in records if record.status is not Status.OK]
    for record in failed:
        session.say(f"Without numbers: {record.cell.describe()}: {record.reason}")
    return 0


def _measure(
    config: GateConfig, planned: Sequence[PlannedCell], here: Environment, session: Session
) -> list[Record]:
    expected = {
        p.cell.entry + p.cell.key: expected_s(p.cell, config.sweep.measure) for p in planned
    }
    records, server = [], session.server(config.sweep)
    with server, Interrupt() as interrupt, SweepProgress(session.console, expected) as progress:
        jobs = Jobs(server, config.sweep.run.timeout_s, interrupt)
        for record in Runner(config.sweep, here, jobs, progress, session.sweep_id).run(planned):
            records.append(record)
            progress.finish(record)
    return records


def show_history(config: GateConfig, session: Session) -> int:
    """List how cells moved over the stored baselines of each class of machines."""
    folder, own = baselines_folder(config.sweep.out), accepted_in(config.sweep.out).path
    found = regular_files(config.sweep.out, f"{folder.name}/*.jsonl")
    files = [file for file in found if file != own]
    if not files:
        session.say(
            f"No baseline is stored in {folder}. First run `make baseline` (store=true) at one "
            "commit, and again at a later one; history=true then lists what moved between them."
        )
    for baselines in map(read_baselines, files):
        moved = steps(baselines, config.stored_threshold, config.family_error)
        print_history(baselines, moved, session.console)
    return 0
