"""`python -m bench.publishing.accuracy FOLDER PAGE COMMAND [TASK ...]`: a page of docs/results.

It shows what was trained under FOLDER: all of it, or the tasks named, in their order; a name may
have a setting in which tasks of one name differ, as "word_problem group=S3". COMMAND is what was
typed to train it, and stands on the page. Tables of what was timed there follow. Pictures that have
something to show lie beside the page, in a folder of its name.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.core.cli.errors import ConfigError, check_known
from bench.core.cli.values import run_words
from bench.core.format import format_duration, quantity
from bench.core.observed import CONTROLS
from bench.core.record import Record, Status
from bench.core.store import latest, read_records
from bench.publishing.charts import charts
from bench.publishing.charts.write import write_illustrated
from bench.publishing.converged import by_steps, converged_section, doublings, with_under_trained
from bench.publishing.document import (
    Block,
    Chart,
    Command,
    Document,
    Heading,
    Prose,
    Text,
    escape,
)
from bench.publishing.leaderboard import RANKED_BY, Leaderboard, build_leaderboard
from bench.publishing.markdown import holes_blocks
from bench.publishing.naming import commits_in_words
from bench.publishing.scores import TaskScores
from bench.publishing.searched import at_best_rate
from bench.publishing.tables import (
    Section,
    holes_table,
    machine_words,
    speed_sections,
    summary_words,
    varied_settings,
)
from bench.publishing.task_tables import task_sections
from bench.publishing.templates import prose

_SPEED_COLUMNS = (RANKED_BY, "latency_s", "state_bytes", "kept_share", "peak_memory_bytes", "flops")


def accuracy_page(
    records: Sequence[Record],
    command: str,
    pictures: Sequence[Chart] = (),
    order: Sequence[str] = (),
    notes: Sequence[str] = (),
    timed: Sequence[Record] = (),
    title: str = "",
) -> Document:
    """The page.

    Args:
        records: of training runs; the newest one of each cell counts.
        command: the command line that trained them.
        pictures: its charts.
        order: prefixes of task names, in the order of the page; tasks without one come last.
        notes: sentences below the command.
        timed: records of timings of the same rows.
        title: its heading; empty for one that names the tasks and the number of seeds.
    """
    newest = latest(records)
    board = build_leaderboard(at_best_rate(newest), CONTROLS, within_budget=True)
    board = _told_apart(board, order)
    tasks = ", ".join(dict.fromkeys(_bare_label(record) for record in newest))
    least, most = (pick(task.num_seeds for task in board.tasks) for pick in (min, max))
    seeds = (f"{least} to " if least < most else "") + quantity(most, "seed")
    blocks: list[Block] = [
        Prose(escape(origin(newest, machine_words(board), board.commits))),
        Command(command),
        *(Text([note]) for note in notes),
        Prose(prose(__file__, "how_to_read")),
        *pictures,
        *(block for section in _sections(board) for block in section.blocks(level=2)),
        *holes_blocks(board),
        *_speed_blocks(timed),
    ]
    usual = f"Accuracy{' and speed' * bool(timed)} on {tasks}, over {seeds}"
    return Document(title or usual, blocks)


def _speed_blocks(timed: Sequence[Record]) -> Iterator[Block]:
    """Tables of speed and state, if anything was timed."""
    if not timed:
        return
    board = build_leaderboard(timed, CONTROLS)
    yield Heading("Speed and state")
    yield Text([f"Timed on {'; '.join(machine_words(board))}. {summary_words(board)}"])
    for section in speed_sections(board, _SPEED_COLUMNS):
        yield from section.blocks()
    if board.holes:
        yield holes_table(board)


def _told_apart(board: Leaderboard, order: Sequence[str] = ()) -> Leaderboard:
    """Add to labels that several tasks share their differing settings, and sort by `order`.

    For example ``recall position=rope``.
    """

    def named(task: TaskScores) -> TaskScores:
        varied = varied_settings(task, board.tasks)
        words = [f"{name}={varied[name]}" for name in sorted(varied.keys() - {*_NAMED})]
        return replace(task, label=" ".join([task.label, *words]))

    def place(task: TaskScores) -> int:
        fitting = (i for i, name in enumerate(order) if f"{task.label} ".startswith(f"{name} "))
        return next(fitting, len(order))

    return replace(board, tasks=tuple(sorted(map(named, board.tasks), key=place)))


_NAMED = ("num_steps", "learning_rate")
"""Settings that a table shows elsewhere, or for each row."""


def _sections(board: Leaderboard) -> list[Section]:
    """Tables within a number of steps, then tables at convergence if steps were doubled."""
    shown, ended = {id(task): task for task in board.tasks}, []
    for tasks in by_steps(board.tasks).values():
        if rows := doublings(tasks):
            steps = min(tasks)
            first = tasks.pop(steps)
            shown[id(first)] = with_under_trained(first, steps, rows)
            for longer in tasks.values():
                del shown[id(longer)]
            ended.append(converged_section(f"{first.label} · at convergence", rows))
    return [*task_sections(replace(board, tasks=tuple(shown.values()))), *ended]


def _bare_label(record: Record) -> str:
    """A task's name, without the settings that distinguish its label from others."""
    return record.cell.task.label.partition(" ")[0]


def origin(records: Sequence[Record], machines: Sequence[str], commits: Sequence[str]) -> str:
    """Beginning of a sentence that ends with a command: machine, commit, dates and durations."""
    days = " and ".join(sorted({record.started_at[:10] for record in records}))
    trained = [record for record in records if record.status is not Status.SKIPPED]
    spent_s = sum(record.cost_s.get("total", 0.0) for record in trained)
    return (
        f"Measured on {'; '.join(machines)}, {commits_in_words(commits)}, {days}: "
        f"{quantity(len(trained), 'training')} in {format_duration(wall_s(trained))} of wall time, "
        f"{format_duration(spent_s)} if they had run one after the other, by"
    )


def head_norm_words(settings: Mapping[str, Any]) -> list[str]:
    """A sentence on a causal task that was trained without a norm over each head's output."""
    if settings.get("head_norm"):
        return []
    return [
        "These models have no norm over each head's output (head_norm=false), which "
        "docs/methodology/tasks.md asks of a causal task: mechanisms with a decay or a delta rule "
        "have it in their papers, and may score better with it."
    ]


def wall_s(records: Sequence[Record]) -> float:
    """Wall time in seconds, from the first start to the last end, summed over sweeps."""
    spans: dict[str, list[tuple[float, float]]] = {}
    for record in (record for record in records if record.started_at):
        start = datetime.fromisoformat(record.started_at).timestamp()
        end = start + record.cost_s.get("total", 0.0)
        spans.setdefault(record.sweep, []).append((start, end))
    return sum(
        max(end for _, end in own) - min(start for start, _ in own) for own in spans.values()
    )


def chosen(records: Sequence[Record], tasks: Sequence[str]) -> list[Record]:
    """Records of training runs: all, or those of the named tasks.

    Raises:
        ConfigError: a named task was not trained, or none was.
    """
    trained = [record for record in records if record.cell.is_task]
    known = {_bare_label(record) for record in trained}
    wanted = [task.partition(" ")[0] for task in tasks]
    for task in wanted:
        check_known(task, known, f"No task {task!r} was trained here.")
    found = [record for record in trained if not wanted or _bare_label(record) in wanted]
    if not found:
        raise ConfigError("Nothing was trained here: there is no record of a task.")
    return found


def write_page(
    store: Path,
    page: Path,
    command: str,
    tasks: Sequence[str] = (),
    notes: Sequence[str] = (),
    title: str = "",
) -> list[Path]:
    """Write the page of a store and its pictures; returns their paths.

    Raises:
        ConfigError: nothing was trained there, or a file cannot be written.
    """
    stored = read_records(store)
    records = chosen(stored, tasks)
    timed = [] if tasks else [record for record in stored if not record.cell.is_task]
    # From training runs alone, so that charts against latency are not drawn.
    board = _told_apart(build_leaderboard(at_best_rate(records), CONTROLS), tasks)
    document = accuracy_page(records, command, charts(board), tasks, notes, timed, title)
    return write_illustrated(document, page)


def main(argv: list[str] | None = None) -> int:
    """Write the page and its pictures."""
    return run_words(_write, argv, __doc__ or "")


def _write(words: list[str]) -> int:
    if len(words) < 3:
        print(__doc__)
        return 2
    folder, page, command, *tasks = words
    files = write_page(Path(folder), Path(page), command, tasks)
    print(f"Wrote {', '.join(map(str, files))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
