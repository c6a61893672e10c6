"""The answer: rows that fulfil the needs, those tied as the cheapest, and how to separate them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from attentions.catalogue import catalogue
from bench.core.cli.errors import ConfigError
from bench.core.cli.values import as_typed
from bench.core.format import join_names, number, quantity
from bench.core.proofs import Proofs, read_proofs
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
from bench.publishing.metrics.ranks import rank_speed
from bench.publishing.scores import Score, TaskScores
from bench.studies.advise.evidence import (
    OPEN,
    Candidate,
    Question,
    board_of,
    cost_at,
    needs,
    num_rates,
    read_all,
    task_of,
    timed,
    unproven,
)
from bench.studies.advise.experiment import cheapest, sweep_of
from bench.studies.advise.settings import Advise
from bench.studies.session import Session

FEWEST_SEEDS = 3
"""Smallest number of seeds with which a score counts as reached."""


def study(asked: Advise, session: Session) -> None:
    """Answer each length and mode, and write the page if one is asked for."""
    records = read_all(asked.records)
    board = board_of(records)
    task = _Task(asked.task, session.composed) if asked.task else None
    table = task_of(task.name, task.typed, board.tasks) if task else None
    is_share = table is not None and not table.unit
    if table and asked.score is not None:
        _check_score(table, asked.score, str(asked.task))
    proofs = read_proofs(Path("results"))
    rows = [s.entry for s in table.scores if not (s.is_control or s.is_skipped)] if table else []
    blocks: list[Block] = []
    for mode in asked.mode:
        causal = _causal(asked, table, mode)
        for seq_len in asked.seq_len:
            here = timed(board, asked, mode, seq_len, causal, rows)
            anywhere = here if here.setting else timed(board, asked, mode, seq_len, None, rows)
            sweep = sweep_of(asked, rows or sorted(anywhere.by_entry), [seq_len], mode, causal)
            _check_range(asked, seq_len, mode, anywhere.lengths, sweep)
            least = asked.score / 100 if asked.score is not None and is_share else asked.score
            question = Question(
                asked=asked,
                seq_len=seq_len,
                mode=mode,
                causal=causal,
                table=table,
                overrides=task.overrides(table) if task and table else (),
                least=least,
                timed=here,
            )
            blocks += answer(question, _candidates(question, records, proofs), records)
    title = "Which one to take" if asked.page else "What the records say"
    origin = Text(["Answered from stored records by"])
    document = Document(title, [origin, Command(session.command("page")), *blocks])
    session.show(document)
    if asked.page:
        session.write(document, asked.page)


class _Task:
    """The task of a request.

    Attributes:
        name: its name in conf/task.
        typed: settings that the command line gave.
    """

    def __init__(self, name: str, composed: Mapping[str, Any]) -> None:
        self.name, self._own = name, dict(composed["task"][name])
        given = set(composed.get("given", ()))
        self.typed = {k: v for k, v in self._own.items() if f"task.{name}.{k}" in given}

    def overrides(self, table: TaskScores) -> list[str]:
        """Overrides that give a sweep the settings of some scores, except learning rates."""
        stored = self._own | json.loads(table.settings)
        differ = [k for k, v in self._own.items() if k in self.typed or stored[k] != v]
        words_ = {k: stored[k] for k in differ if k != "learning_rate"}
        return [f"task.{self.name}.{k}={as_typed(v)}" for k, v in words_.items()]


def _causal(asked: Advise, table: TaskScores | None, mode: str) -> bool:
    if asked.causal is not None:
        return asked.causal
    return mode in ("prefill", "decode") or (table is not None and table.causal)


def _check_range(
    asked: Advise, seq_len: int, mode: str, lengths: Sequence[int], sweep: str
) -> None:
    """Refuse a length outside of what was measured.

    Raises:
        ConfigError: names the range, and the sweep that would answer.
    """
    if lengths and lengths[0] <= seq_len <= lengths[-1]:
        return
    what = f"mode={mode}, dtype={asked.dtype}, batch_size={asked.batch_size}"
    then = f"This sweep would answer, and then the same command: {sweep}"
    if not lengths:
        raise ConfigError(f"Nothing is stored of {what}. {then}")
    raise ConfigError(
        f"seq_len={seq_len} is outside of what was measured: {lengths[0]:,} to {lengths[-1]:,} "
        f"tokens with {what}. No time is extrapolated. {then}"
    )


# --- candidates -----------------------------------------------------------------------------------


def _candidates(
    question: Question, records: Sequence[Record], proofs: Mapping[str, Proofs]
) -> list[Candidate]:
    """Every row with a score, or without a task every timed row."""
    table, here = question.table, question.timed
    found = []
    for entry, mechanism in _rows(question).items():
        row = Candidate(entry=entry, mechanism=mechanism)
        if entry in here.by_entry:
            row = replace(row, cost=cost_at(here.by_entry[entry], question.seq_len))
        if table is not None:
            score = next(s for s in table.scores if s.entry == entry)
            tried = num_rates(score, table, [r for r in records if r.cell.is_task])
            row = replace(row, score=score, num_rates=tried)
        found.append(_judged(row, question, proofs.get(mechanism, Proofs())))
    return found


def _rows(question: Question) -> dict[str, str]:
    """Mechanism of each row by its name."""
    if question.table is not None:
        scores = [s for s in question.table.scores if not (s.is_control or s.is_skipped)]
        return {s.entry: s.records[0].cell.mechanism for s in scores}
    return {
        entry: next(iter(own.values())).cell.mechanism
        for entry, own in question.timed.by_entry.items()
    }


def _judged(row: Candidate, question: Question, proofs: Proofs) -> Candidate:
    """The row with its proof in words, and the reason if it is not an answer."""
    wanted = needs(question.mode, causal=question.causal, dtype=question.asked.dtype)
    modules = {entry.name: entry.module for entry in catalogue()}
    lacking = unproven(proofs, wanted)
    is_old = proofs.is_stale(modules.get(row.mechanism, ""))
    proof = f"not proven: {', '.join(lacking)}" if lacking else ", ".join(wanted)
    row = replace(row, proof=f"{proof} (of an earlier source)" if is_old else proof)
    why = _why_no_score(row.score, question) if row.score else "" if row.cost else NO_COST
    return replace(row, why_not=proof if lacking else why)


def _why_no_score(score: Score, question: Question) -> str:
    interval, table = score.interval, question.table
    assert table is not None
    if not score.may_be_ranked:
        return f"not ranked: {score.marks[0] if score.marks else 'marked'}"
    if interval is None or len(score.accuracies) < FEWEST_SEEDS:
        return f"fewer than {FEWEST_SEEDS} seeds"
    if question.least is None:
        leaders = table.ranks.leaders() if table.ranks else ()
        return "" if score.entry in leaders else "another row is ahead"
    low, high = interval if not table.unit else (-interval[1], -interval[0])
    least = question.least if not table.unit else -question.least
    if low >= least:
        return ""
    return OPEN if high >= least else "falls short"


NO_COST = "no time at this length"


def told_apart(rows: Sequence[Candidate]) -> tuple[list[Candidate], list[Candidate]]:
    """The answers that cannot be told apart from the cheapest, and the others, cheapest first.

    If all were measured at this length and against one reference, ranks decide; else whether
    intervals overlap. A row without a cost cannot be told apart from any.
    """
    fit = [row for row in rows if not row.why_not]
    fit.sort(key=lambda row: row.cost.seconds if row.cost else math.inf)
    priced = [row for row in fit if row.cost]
    if not priced:
        return fit, []
    records = {r.entry: r.cost.record for r in priced if r.cost and r.cost.record}
    references = {r.result.reference_key for r in records.values() if isinstance(r.result, Speed)}
    is_alike = len(records) == len(priced) and len(references) == 1
    ranks = rank_speed(records) if is_alike else None
    if ranks and len(ranks.names) == len(priced):
        first = set(ranks.leaders())
    else:
        least = min(r.cost.high for r in priced if r.cost)
        first = {r.entry for r in priced if r.cost and r.cost.low <= least}
    return (
        [row for row in fit if not row.cost or row.entry in first],
        [row for row in priced if row.entry not in first],
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
        settings = json.loads(table.settings)
        shown = ("group", "seq_len", "num_layers", "embed_dim", "num_steps")
        words_ = ", ".join(f"{key} {settings[key]}" for key in shown if key in settings)
        yield f"Scores: {table.label} with {words_}, {quantity(table.num_seeds, 'seed')}."


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
        said["score"] = Estimate(row.score.accuracy or float("nan"), low, high)
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
