"""The answer: rows that fulfil the needs, those tied as the cheapest, and how to separate them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from bench.core.cli.errors import ConfigError
from bench.core.cli.values import as_typed
from bench.core.format import join_names, number, quantity
from bench.core.proofs import read_proofs
from bench.core.record import Record, Speed
from bench.publishing.document import (
    Block,
    Column,
    Command,
    Document,
    Estimate,
    Heading,
    Row,
    Table,
    Text,
    words,
)
from bench.publishing.metrics.marks import NOISY, marks
from bench.publishing.scores import TaskScores
from bench.studies.advise.evidence import (
    Candidate,
    Question,
    Timed,
    board_of,
    candidates,
    read_all,
    rows_of,
    task_of,
    timed,
    told_apart,
)
from bench.studies.advise.experiment import cheapest, sweep_of
from bench.studies.advise.settings import CAUSAL_MODES, Advise
from bench.studies.session import Session


def study(asked: Advise, session: Session) -> None:
    """Answer each length and mode, and write the page if one is asked for."""
    records = read_all(asked.records)
    board, proofs = board_of(records), read_proofs(Path("results"))
    table, overrides = None, list[str]()
    if asked.task is not None:
        own, typed = _task_settings(asked.task, session.composed)
        table = task_of(asked.task, typed, board.tasks)
        overrides = [*_overrides(asked.task, own, typed, table)]
    least, is_share = asked.score, table is not None and not table.unit
    if table is not None and least is not None:
        _check_score(table, least, str(asked.task))
    if is_share and least is not None:
        least /= 100
    blocks: list[Block] = []
    for mode, seq_len in product(asked.mode, asked.seq_len):
        causal = mode in CAUSAL_MODES or (table is not None and table.causal)
        causal = causal if asked.causal is None else asked.causal
        question = Question(
            asked=asked,
            seq_len=seq_len,
            mode=mode,
            causal=causal,
            table=table,
            overrides=overrides,
            least=least,
        )
        here = timed(board, question)
        _check_range(question, here if here.setting else timed(board, question, whatever_mask=True))
        question = replace(question, timed=here)
        blocks += answer(question, [*candidates(question, records, proofs)], records)
    title = "Which one to take" if asked.page else "What the records say"
    origin = Text(["Answered from stored records by"])
    document = Document(title, [origin, Command(session.command("page")), *blocks])
    session.show(document)
    if asked.page:
        session.write(document, asked.page)


_Task = dict[str, Any]
"""Settings of a task."""


def _task_settings(name: str, composed: Mapping[str, Any]) -> tuple[_Task, _Task]:
    """All settings of a task, and those that the command line gave."""
    own, given = dict(composed["task"][name]), {*composed.get("given", ())}
    return own, {k: v for k, v in own.items() if f"task.{name}.{k}" in given}


def _overrides(name: str, own: _Task, typed: _Task, table: TaskScores) -> Iterator[str]:
    """Overrides that give a sweep the settings of some scores, except learning rates."""
    stored = own | table.named_settings
    for key, value in own.items():
        if key != "learning_rate" and (key in typed or stored[key] != value):
            yield f"task.{name}.{key}={as_typed(stored[key])}"


def _check_range(question: Question, measured: Timed) -> None:
    """Refuse a length outside of what was measured.

    Raises:
        ConfigError: names the range, and the sweep that would answer.
    """
    asked, seq_len, lengths = question.asked, question.seq_len, measured.lengths
    if lengths and lengths[0] <= seq_len <= lengths[-1]:
        return
    what = f"mode={question.mode}, dtype={asked.dtype}, batch_size={asked.batch_size}"
    sweep = sweep_of(question, rows_of(question.table) or sorted(measured.by_entry))
    then = f"This sweep would answer, and then the same command: {sweep}"
    if not lengths:
        raise ConfigError(f"Nothing is stored of {what}. {then}")
    raise ConfigError(
        f"seq_len={seq_len} is outside of what was measured: {lengths[0]:,} to {lengths[-1]:,} "
        f"tokens with {what}. No time is extrapolated. {then}"
    )


# --- the page -------------------------------------------------------------------------------------


def answer(question: Question, rows: Sequence[Candidate], records: Sequence[Record]) -> list[Block]:
    """A sentence, the table, and the experiment that would narrow the answer."""
    chosen, others = told_apart(rows)
    where = f"{question.mode}, {question.seq_len:,} tokens"
    blocks: list[Block] = [
        Heading(where),
        Text([_sentence(question, chosen, others), *_scored(question), _place(question)]),
        _table(question, [*chosen, *others, *(row for row in rows if row.why_not)], chosen),
    ]
    found = cheapest(question, chosen, rows, records)
    if found is None:
        if len(chosen) > 1:
            blocks.append(Text(["No experiment of an hour would tell them apart: take any."]))
        return blocks
    took = f"{max(1, round(found.minutes))} min"
    said = f"The cheapest experiment that would say more, about {took}: {found.purpose}"
    return [*blocks, Text([said, found.command])]


def _sentence(question: Question, chosen: Sequence[Candidate], others: Sequence[Candidate]) -> str:
    names = [row.entry for row in chosen]
    if not names:
        return f"No row is proven to {_goal(question, 0)}."
    reached = [row.entry for row in (*chosen, *others)]
    unpriced = [row.entry for row in chosen if row.cost is None]
    said = f"{join_names(reached)} {_goal(question, len(reached))}. "
    if len(unpriced) == len(names):
        return said + "What they cost in this setting is not stored, so that none is ahead."
    if len(names) == 1:
        return said + f"{names[0]} is the cheapest."
    said += f"{join_names(names)} cannot be told apart as the cheapest"
    return said + (f"; no cost is stored of {join_names(unpriced)}." if unpriced else ".")


def _goal(question: Question, count: int) -> str:
    """Verb and object for so many rows; for none, in the infinitive."""
    table, plural = question.table, count != 1
    if table is None:
        return "fulfil the needs" if plural else "fulfils the needs"
    if question.least is None and not count:
        return f"be best on {table.label}"
    if question.least is None:
        return f"{'are' if plural else 'is'} best on {table.label}, no row being ahead"
    verb = "reach" if plural else "reaches"
    amount = f"{question.asked.score:g} {table.unit or '%'}"
    return f"{verb} {amount} on {table.label} with the whole of the 95 % interval"


def _scored(question: Question) -> Iterator[str]:
    """Task and settings of the scores, whose sequences are mostly shorter than those of costs."""
    if table := question.table:
        settings = table.named_settings
        shown = ("group", "seq_len", "num_layers", "embed_dim", "num_steps")
        words_ = ", ".join(f"{key} {settings[key]}" for key in shown if key in settings)
        counts = [len(score.accuracies) for score in rows_of(table).values() if score.accuracies]
        few, most = min(counts, default=table.num_seeds), max(counts, default=table.num_seeds)
        seeds = quantity(most, "seed") if few == most else f"{few} to {most} seeds"
        yield f"Scores: {table.label} with {words_}, {seeds}."


def _check_score(table: TaskScores, score: float, task: str) -> None:
    """Refuse a share above 100 %, and a score in another unit that guessing betters."""
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


def _place(question: Question) -> str:
    setting = question.timed.setting
    kind = "causal" if question.causal else "bidirectional"
    if setting is None:
        return f"No time of a {kind} {question.mode} in {question.asked.dtype} is stored."
    axes, lengths = setting.axes, question.timed.lengths
    return (
        f"Times: {setting.machine}, {setting.device}, "
        f"{quantity(setting.num_threads, 'thread')}, {kind}, batch "
        f"{axes['batch_size']}, {axes['num_heads']} heads of {axes['head_dim']}, measured at "
        f"{', '.join(f'{length:,}' for length in lengths)} tokens."
    )


def _table(question: Question, rows: Sequence[Candidate], chosen: Sequence[Candidate]) -> Table:
    table = question.table
    unit, factor, digits = ("%", 0.01, ".1f")
    if table and table.unit:
        unit, factor, digits = (table.unit, 1.0, ".3f")
    columns = [
        words("attention"),
        words("answer"),
        *([Column("score", table.label, unit, factor, digits)] if table else []),
        *([words("rates", "learning rate"), Column("seeds", digits=".0f")] if table else []),
        Column("latency", "latency", "ms", 1e-3, number, "lower"),
        words("basis", "at this length"),
        Column("state", "state", "KiB", 1024, number, "lower"),
        words("proof", "proven"),
    ]
    return Table(columns=columns, rows=[_row(row, row in chosen) for row in rows])


def _row(row: Candidate, is_chosen: bool) -> Row:
    said: dict[str, str | int | float | Estimate | None] = {
        "attention": row.entry,
        "answer": row.why_not or ("yes" if is_chosen else "yes, at a higher cost"),
        "proof": row.proof,
    }
    if row.score:
        low, high = row.score.shown_interval or (None, None)
        mean = row.score.accuracy
        said["score"] = Estimate(float("nan") if mean is None else mean, low, high)
        said["seeds"] = len(row.score.accuracies)
        rates = f"best of {row.num_rates} rates" if row.num_rates > 1 else "one rate"
        said["rates"] = "; ".join([rates, *row.score.marks])
    if row.cost:
        said["latency"] = Estimate(row.cost.seconds, row.cost.low, row.cost.high)
        said["basis"] = "fitted"
        if record := row.cost.record:
            assert isinstance(record.result, Speed)
            said["basis"] = f"measured, {NOISY}" if NOISY in marks(record) else "measured"
            said["state"] = record.result.state_bytes
    return said
