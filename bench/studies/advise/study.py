"""Read the records that come with the code, and answer each length and mode from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from attentions.catalogue import catalogue
from bench.core.cli.errors import ConfigError
from bench.core.cli.values import as_typed
from bench.core.observed import CONTROLS
from bench.core.places import CHECKOUT
from bench.core.proofs import read_proofs
from bench.core.record import Record
from bench.core.rows import task_settings_of
from bench.core.spans import height_of
from bench.core.store import read_packed, read_records, stores_below
from bench.publishing.document import Block, Command, Document, Text
from bench.publishing.leaderboard import build_leaderboard
from bench.publishing.scores import TaskScores
from bench.publishing.searched import at_best_rate
from bench.studies.advise.evidence import (
    CAUSAL_MODES,
    Advise,
    Question,
    candidates,
    rows_of,
    task_of,
    timed,
)
from bench.studies.advise.page import answer, direction, sweep_of
from bench.studies.session import Session

KEPT = ("docs/results", "results/accuracy", "results/decode", "results/runtimes")
"""Folders of records that come with the code."""


def study(asked: Advise, session: Session) -> None:
    """Answer each length and mode, and write the page if one is asked for."""
    records = read_all(asked.records)
    trained = at_best_rate(record for record in records if record.cell.is_task)
    clocked = [record for record in records if not record.cell.is_task]
    # One board, on which a row has one name for its score and for its times.
    board = build_leaderboard([*trained, *clocked], CONTROLS, within_budget=True)
    proofs, modules = read_proofs(Path("results")), {e.name: e.module for e in catalogue()}
    table, overrides, least = None, list[str](), None
    name = asked.task
    if name is None and asked.holds is not None:
        is_causal = asked.causal or {*asked.mode} & {*CAUSAL_MODES}
        name = f"recall_span{'_causal' if is_causal else ''}"
    if name is not None:
        own = dict(session.composed.get("task", {}).get(name) or task_settings_of(name) or {})
        given = {*session.composed.get("given", ())}
        typed = {k: v for k, v in own.items() if f"task.{name}.{k}" in given}
        table = task_of(name, typed, board.tasks)
        stored, least = own | table.named_settings, _least(asked, table)
        overrides = [
            f"task.{name}.{key}={as_typed(stored[key])}"
            for key, value in own.items()
            if key != "learning_rate" and (key in typed or stored[key] != value)
        ]
    blocks: list[Block] = []
    for mode, seq_len in product(asked.mode, asked.seq_len):
        causal = mode in CAUSAL_MODES or (table is not None and table.causal)
        question = Question(
            asked=asked,
            seq_len=seq_len,
            mode=mode,
            causal=causal if asked.causal is None else asked.causal,
            table=table,
            overrides=overrides,
            least=least,
        )
        question = replace(question, timed=timed(board, question))
        _check_range(question)
        blocks += answer(question, [*candidates(question, proofs, modules)])
    session.show(Document("What the records say", blocks))
    if asked.page:
        origin = Text(["Answered from stored records by"])
        page = [origin, Command(session.command("page")), *blocks]
        session.write(Document("Which one to take", page), asked.page)


def _check_range(question: Question) -> None:
    """Refuse a length outside of what was measured.

    Raises:
        ConfigError: names the range, and the sweep that would answer.
    """
    asked, seq_len, lengths = question.asked, question.seq_len, question.timed.lengths
    if lengths and lengths[0] <= seq_len <= lengths[-1]:
        return
    what = f"mode={question.mode}, dtype={asked.dtype}, batch_size={asked.batch_size}"
    sweep = sweep_of(question, rows_of(question.table) or sorted(question.timed.by_entry))
    then = f"This sweep would answer, and then the same command: {sweep}"
    if not lengths:
        raise ConfigError(f"No {direction(question)} call with {what} is stored. {then}")
    raise ConfigError(
        f"seq_len={seq_len} is outside of what was measured: {lengths[0]:,} to {lengths[-1]:,} "
        f"tokens with {what}. No time is extrapolated. {then}"
    )


def _least(asked: Advise, table: TaskScores) -> float | None:
    """The required score, as a share, in the task's unit or as a height on its ladder.

    None if the best is asked for.

    Raises:
        ConfigError: the task has no such score, or it is no better than guessing.
    """
    score, holds, rungs, task = asked.score, asked.holds, table.rungs, asked.task
    if holds is not None:
        if not rungs:
            raise ConfigError(
                f"holds={holds:g} is a span, and {table.label} has no rungs. Ask for score=95 "
                "there, or take a task with rungs, e.g. task=recall_span."
            )
        if not rungs[0] < holds < rungs[-1]:
            raise ConfigError(
                f"holds={holds:g} is outside of what was tested: more than {rungs[0]} and fewer "
                f"than {rungs[-1]} {table.rung_of}. Ask for a span between."
            )
        return height_of(holds, rungs)
    if score is None:
        return None
    if rungs:
        raise ConfigError(
            f"score={score:g} is a percentage, and {task} is scored by its span. Ask for a number "
            f"of {table.rung_of}, e.g. holds={rungs[len(rungs) // 2]}."
        )
    if not table.unit and score > 100:
        raise ConfigError(
            f"score={score:g} is more than 100. On task={task} a score is the percentage of right "
            "answers, e.g. score=95."
        )
    guess = max((row.chance for row in table.scores if row.chance is not None), default=None)
    if table.unit and guess is not None and score > guess:
        raise ConfigError(
            f"score={score:g} is worse than guessing, {guess:.3g} {table.unit}. On task={task} "
            "less is better."
        )
    return score if table.unit else score / 100


def read_all(folders: Sequence[Path]) -> list[Record]:
    """Records of all stores in some folders, and of files ``records.jsonl.gz``.

    Args:
        folders: empty for those that come with the code, and ``results`` where the command runs.

    Raises:
        ConfigError: a folder that was named has no records, or nothing has any.
    """
    found: dict[tuple[str, str], Record] = {}
    usual = [*(CHECKOUT / name for name in KEPT), Path("results")]
    for folder in folders or [each for each in usual if each.is_dir()]:
        own = [*read_packed(folder / "records.jsonl.gz")]
        try:
            # Below ``results`` are trials and baselines too; only the sweep at its top counts.
            stores = [folder] if folder == usual[-1] else stores_below(folder)
            own += [r for s in stores for r in read_records(s, missing_ok=True)]
        except ConfigError:
            if folders and not own:
                raise
        found |= {(record.cell.key, record.started_at): record for record in own}
    if not found:
        raise ConfigError(
            "There are no records to answer from. `attnbench sweep` measures some into results/."
        )
    return [*found.values()]
