"""The command `regress`: choose two sides, compare them, then print and write the rows."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.core.cli.errors import ConfigError
from bench.core.cli.files import check_writable, write_whole
from bench.core.clock import utc_now
from bench.core.format import quantity
from bench.core.settings import (
    AfterValidator,
    BeforeValidator,
    Folder,
    Interval,
    Many,
    Name,
    Settings,
)
from bench.measuring.config import SweepConfig, read_sweep_config
from bench.measuring.measure.stopping import Stopping
from bench.measuring.plan import PlannedCell, plan
from bench.measuring.worker.jobs import Interrupt, Interrupted, Jobs
from bench.publishing.document import escape, markdown_table
from bench.studies.gate.accept import Accept, accepted_in, check_entries, read_accepts, settle
from bench.studies.gate.commits import (
    Effort,
    compare_commits,
    current_tree,
    default_base,
    resolve,
    worktree,
)
from bench.studies.gate.rows import (
    ACCURACY,
    FAILURES,
    LATENCY,
    LOSS,
    GateRow,
    GateVerdict,
    exit_code,
)
from bench.studies.gate.stored import compare_stored, read_side
from bench.studies.session import STOPPED, Session

File = Annotated[Folder, AfterValidator(Path.expanduser)]


OF_A_SWEEP = {"dry_run": False, "force": False, "require_ok": False, "measure": asdict(Stopping())}
"""Keys of a sweep that a comparison does not have."""


class _Keys(Settings):
    """Keys that are read only to build the sweep's configuration."""

    scope: Many[str]
    task_settings: dict[str, Any]


class GateConfig(Settings):
    """Everything that `bench.regress` was asked for."""

    sweep: SweepConfig
    base: Name | None = None
    """Commit to compare with; None for the usual one."""
    baseline: File | None = None
    """Stored numbers to compare with, in place of a commit."""
    current: File | None = None
    """Other stored numbers, beside `baseline`."""
    accept: Annotated[tuple[Accept, ...], BeforeValidator(read_accepts)] = ()
    threshold: Annotated[float, Interval(ge=0, le=1)]
    """Slowdown, as a share."""
    budget_s: Annotated[float, Interval(ge=0, le=3600)]
    """Seconds per comparison."""
    stored_threshold: Annotated[float, Interval(ge=0, le=10)]
    """Slowdown between stored numbers."""
    family_error: Annotated[float, Interval(ge=1e-6, le=0.5)]
    """Chance of a false SLOWER over all cells."""

    @property
    def effort(self) -> Effort:
        """Budget of a comparison, and the slowdown that it must find."""
        return Effort(threshold=self.threshold, budget_s=self.budget_s)


def read_gate_config(composed: Mapping[str, Any]) -> GateConfig:
    """Validate the composed configuration.

    Raises:
        ConfigError: a value is not allowed, or two keys exclude each other.
    """
    keys = _Keys.read(composed)
    given = composed.get("task") or {}
    tasks = {label: {**task, **keys.task_settings} for label, task in given.items()}
    _refuse_two(composed)
    if "model" in keys.scope:
        raise ConfigError(
            "scope=model is not compared: regress times mechanisms of two trees in one process. "
            "Choose scope=core or scope=layer; attnbench sweep measures whole models."
        )
    sweep = read_sweep_config({**composed, **OF_A_SWEEP, "task": tasks})
    return GateConfig.read({**composed, "sweep": sweep})


def _refuse_two(config: Mapping[str, Any]) -> None:
    """Refuse keys that exclude each other: each selects another kind of comparison."""
    given = [name for name in ("base", "baseline") if config.get(name)]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} are given; choose one of them.")
    if config.get("current") is not None and "baseline" not in given:
        raise ConfigError("current is given without baseline, the numbers to compare it with.")


_HEADER = ("verdict", "cell", "channel", "ratio", "interval", "note")
_STYLES = {
    GateVerdict.SLOWER: "bold red",
    GateVerdict.MORE: "bold red",
    GateVerdict.BROKEN: "bold red",
    GateVerdict.UNSURE: "yellow",
    GateVerdict.FASTER: "green",
    GateVerdict.LESS: "green",
}


@dataclass(frozen=True, kw_only=True)
class Sides:
    """The two sides of a comparison, in words.

    Attributes:
        notes: sentences that qualify the rows.
    """

    base: str
    current: str
    notes: tuple[str, ...] = ()


def shown(rows: Sequence[GateRow]) -> list[GateRow]:
    """Rows to show: all times, and the numbers without noise that changed; failures first."""
    kept = [r for r in rows if r.channel == LATENCY or r.verdict is not GateVerdict.SAME]
    return sorted(kept, key=lambda row: (row.verdict not in FAILURES, row.channel != LATENCY))


def summary(rows: Sequence[GateRow]) -> str:
    """Whether there is a regression, and the number of rows with each verdict."""
    counts = Counter(str(row.verdict) for row in rows)
    parts = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    failed = sorted({row.entry for row in rows if row.verdict in FAILURES})
    found = f"Regression in {', '.join(failed)}" if failed else "No regression"
    return f"{found}. {quantity(len(rows), 'number')} compared: {parts}."


def print_rows(rows: Sequence[GateRow], sides: Sides, console: Console) -> None:
    """Print the table of rows, the notes and the summary."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in _HEADER:
        table.add_column(name, justify="right" if name == "ratio" else "left", overflow="fold")
    for row in shown(rows):
        style = _STYLES.get(row.verdict, "")
        table.add_row(*(Text(cell) for cell in _cells(row)), style=style)
    console.print(Text(f"{sides.current} against {sides.base}", style="bold"))
    console.print(table)
    for note in sides.notes:
        console.print(note, highlight=False, markup=False)
    console.print(summary(rows), highlight=False)


def _cells(row: GateRow) -> tuple[str, ...]:
    ratio = "" if row.ratio is None else f"{row.ratio:.3f}"
    interval = ""
    if row.low is not None and row.high is not None and row.low != row.high:
        interval = f"[{row.low:.3f}, {row.high:.3f}]"
    note = row.reason or ""
    if row.channel != LATENCY and row.base is not None and row.current is not None:
        note = f"{row.base:,.6g} → {row.current:,.6g}" + (f" ({note})" if note else "")
    return (str(row.verdict), row.cell, row.channel, ratio, interval, note)


def markdown(rows: Sequence[GateRow], sides: Sides) -> str:
    """A comment for a pull request: the summary, the failures, and the rest folded away."""
    ordered = shown(rows)
    failed = [row for row in ordered if row.verdict in FAILURES]
    lines = ["### attnbench", "", summary(rows), ""]
    lines += [f"`{escape(sides.current)}` against `{escape(sides.base)}`", ""]
    lines += [f"{escape(note)}\n" for note in sides.notes]
    if failed:
        lines += [_table(failed), ""]
    rest = [row for row in ordered if row not in failed]
    if rest:
        lines += ["<details><summary>All times</summary>", "", _table(rest), "", "</details>", ""]
    return "\n".join(lines)


def _table(rows: Sequence[GateRow]) -> str:
    return markdown_table(_HEADER, [[*map(escape, _cells(row))] for row in rows], "lllrll")


def write_rows(rows: Sequence[GateRow], sides: Sides, out: Path) -> list[Path]:
    """Write ``regress.json`` and ``regress.md`` under `out`.

    The Markdown is also appended to the file ``$GITHUB_STEP_SUMMARY`` if that is set.

    Raises:
        ConfigError: one of these cannot be written.
    """
    text = markdown(rows, sides)
    content = json.dumps([row.to_dict() for row in rows], indent=1, allow_nan=False) + "\n"
    files = [write_whole(out / "regress.json", content), write_whole(out / "regress.md", text)]
    if step_summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        try:
            with Path(step_summary).open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise ConfigError(
                f"GITHUB_STEP_SUMMARY={step_summary} cannot be written: {error.strerror}. Unset it."
            ) from error
    return files


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
    tree = current_tree()
    commit = resolve(config.base) if config.base else default_base()
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
            with worktree(commit) as base, server, session.console.status("") as status:
                jobs = Jobs(server, config.sweep.run.timeout_s, interrupt)
                for row in compare_commits(
                    cells,
                    base,
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
    commits = {"base_commit": commit, "commit": tree.commit}
    code = _conclude(config, rows, sides, session, commits)
    return STOPPED if is_stopped else code


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
    commits = {"base_commit": base.commit, "commit": current.commit}
    return _conclude(config, rows, sides, session, commits)


def _conclude(
    config: GateConfig,
    rows: Sequence[GateRow],
    sides: Sides,
    session: Session,
    commits: Mapping[str, str | None],
) -> int:
    """Store what is accepted now, print and write the rows; returns the exit code.

    `commits` has that of the base and that of the current side, as `settle` takes them.
    """
    file = accepted_in(config.sweep.out)
    kept = file.read(missing_ok=True)
    settled = settle(rows, config.accept, kept, **commits, date=utc_now())
    for idle in settled.idle:
        session.say(f"accept={idle} matches no growth; nothing was accepted by it.")
    if settled.new:
        file.write([*kept, *settled.new])
        session.say(f"Newly accepted numbers: {len(settled.new)}; kept in {file.path}.")
    print_rows(settled.rows, sides, session.console)
    for path in write_rows(settled.rows, sides, config.sweep.out):
        session.say(f"Wrote {path}")
    return exit_code(settled.rows)
