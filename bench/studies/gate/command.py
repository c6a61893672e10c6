"""The command `regress`: choose two sides, compare them, then print and write the rows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from attentions.catalogue import registered_names
from bench.core.cli.command import read_yaml
from bench.core.cli.errors import ConfigError
from bench.core.cli.files import check_writable
from bench.core.clock import utc_now
from bench.measuring.plan import PlannedCell, plan
from bench.measuring.worker.jobs import Interrupt, Interrupted, Jobs
from bench.studies.gate import trees
from bench.studies.gate.accept import accepted_in, check_entries, settle
from bench.studies.gate.commits import compare_commits
from bench.studies.gate.config import GateConfig, read_gate_config
from bench.studies.gate.publish import Sides, print_rows, write_rows
from bench.studies.gate.rows import ACCURACY, LATENCY, LOSS, GateRow, exit_code
from bench.studies.gate.sources import read_side
from bench.studies.gate.stored import compare_stored
from bench.studies.session import STOPPED, Session

ACROSS = (
    "The sides were measured in different processes, whose times can differ by 10 to 20 % with the "
    "same code: only larger changes are told."
)
"""Note on every comparison of stored numbers."""


def regress(composed: dict[str, Any]) -> int:
    """Compare, print and write; returns the exit code, 1 if there is a regression."""
    config = read_gate_config(composed)
    with Session("regress", composed) as session:
        check_writable(config.sweep.out)
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
    code = _finish(config, settled, sides, session)
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
    rows = compare_stored(base.cells, current.cells, config.stored_threshold, config.family_error)
    notes = [ACROSS]
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


def _finish(config: GateConfig, rows: Sequence[GateRow], sides: Sides, session: Session) -> int:
    """Print and write; returns the exit code."""
    print_rows(rows, sides, session.console)
    for file in write_rows(rows, sides, config.sweep.out):
        session.say(f"Wrote {file}")
    return exit_code(rows)
