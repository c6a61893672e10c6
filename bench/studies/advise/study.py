"""The answer in a line, the rows behind it with their reasons, and how to separate them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from bench.core.cli.errors import ConfigError
from bench.core.cli.values import as_typed
from bench.core.format import join_names, number, quantity
from bench.core.proofs import read_proofs
from bench.core.record import REFERENCE, Speed
from bench.core.rows import recurrent_mechanisms, task_settings_of
from bench.core.spans import height_of
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
from bench.publishing.scores import TaskScores, score_words
from bench.studies.advise.evidence import (
    DEARER,
    NOT_COMPARED,
    OPEN,
    TIED,
    Candidate,
    Question,
    board_of,
    candidates,
    cost_at,
    is_flat,
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
    name = asked.task
    if name is None and asked.holds is not None:
        is_causal = asked.causal or {*asked.mode} & {*CAUSAL_MODES}
        name = f"recall_span{'_causal' if is_causal else ''}"
    if name is not None:
        own, typed = _task_settings(name, session.composed)
        table = task_of(name, typed, board.tasks)
        overrides = [*_overrides(name, own, typed, table)]
    least, is_share = asked.score, table is not None and not table.unit
    if table is not None and least is not None:
        _check_score(table, least, str(asked.task))
    if is_share and least is not None:
        least /= 100
    if asked.holds is not None and table is not None:
        least = _height(table, asked.holds)
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
        question = replace(question, timed=timed(board, question))
        _check_range(question)
        blocks += answer(question, [*candidates(question, proofs)])
    session.show(Document("What the records say", blocks))
    if asked.page:
        origin = Text(["Answered from stored records by"])
        page = [origin, Command(session.command("page")), *blocks]
        session.write(Document("Which one to take", page), asked.page)


_Task = dict[str, Any]
"""Settings of a task."""


def _task_settings(name: str, composed: Mapping[str, Any]) -> tuple[_Task, _Task]:
    """All settings of a task, and those that the command line gave."""
    own = dict(composed["task"].get(name) or task_settings_of(name) or {})
    given = {*composed.get("given", ())}
    return own, {k: v for k, v in own.items() if f"task.{name}.{k}" in given}


def _overrides(name: str, own: _Task, typed: _Task, table: TaskScores) -> Iterator[str]:
    """Overrides that give a sweep the settings of some scores, except learning rates."""
    stored = own | table.named_settings
    for key, value in own.items():
        if key != "learning_rate" and (key in typed or stored[key] != value):
            yield f"task.{name}.{key}={as_typed(stored[key])}"


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
        raise ConfigError(f"No {_direction(question)} call with {what} is stored. {then}")
    raise ConfigError(
        f"seq_len={seq_len} is outside of what was measured: {lengths[0]:,} to {lengths[-1]:,} "
        f"tokens with {what}. No time is extrapolated. {then}"
    )


# --- the page -------------------------------------------------------------------------------------


NAMED, NEAR = 3, 1.5
"""Most rows that the first line names, and their greatest cost as a multiple of the cheapest."""

SHORT_CALLS = 1024
"""Most tokens of a causal call whose order depends on what the process freed before."""


def answer(question: Question, rows: Sequence[Candidate]) -> list[Block]:
    """A line that answers, what it rests on, the table, and the experiment that would say more."""
    verdicts, by_name = told_apart(rows), {row.entry: row for row in rows}
    shown = [by_name[name] for name in verdicts]
    lines = [*_plain(question, shown), *_implementations(question, shown)]
    lines += _sentences(question, shown, verdicts)
    blocks: list[Block] = [
        Heading(f"{question.mode}, {question.seq_len:,} tokens"),
        Text([*lines, *_scored(question), _place(question), *_caution(question)]),
        _table(question, shown, verdicts),
    ]
    if found := cheapest(question, shown, verdicts):
        took = f"{max(1, round(found.minutes))} min"
        said = f"The cheapest experiment that would say more, about {took}: {found.purpose}"
        blocks.append(Text([said, found.command]))
    return blocks


def _plain(question: Question, rows: Sequence[Candidate]) -> Iterator[str]:
    """At most three rows to take, each with its time, and softmax beside them."""
    costs = {row.entry: row.cost.seconds for row in rows if row.cost and not row.why_not}
    if not costs:
        return
    most, timed, is_decode = NEAR * min(costs.values()), question.timed, question.mode == "decode"
    near = [name for name in sorted(costs, key=costs.__getitem__) if costs[name] <= most][:NAMED]
    said = join_names([f"{name} {_ms(costs[name])}" for name in near], "or")
    said += " a token" if is_decode else ""
    if is_decode and all(is_flat(timed.by_entry[name]) for name in near):
        said += f", flat from {timed.lengths[0]:,} to {timed.lengths[-1]:,} tokens"
    beside = cost_at(timed.by_entry.get(REFERENCE, {}), question.seq_len)
    said += f"; {REFERENCE} {_ms(beside.seconds)}" if beside and REFERENCE not in near else ""
    length = question.table and question.table.named_settings.get("seq_len")
    yield said + (f"; scored at {length:,} tokens." if length else ".")


def _implementations(question: Question, rows: Sequence[Candidate]) -> Iterator[str]:
    """Whose times recurrent rows have, and the fastest implementation of each that was timed."""
    costs = {row.entry: row.mechanism for row in rows if row.cost and not row.why_not}
    if not recurrent_mechanisms() & {*costs.values()}:
        return
    found = {name: question.timed.faster[name] for name in costs if name in question.timed.faster}
    said = [
        f"{other.entry} ({number(other.ratio)} times {name}'s speed at {length:,} tokens)"
        for name, (other, length) in found.items()
    ]
    also = f"; faster here: {join_names(said)}" if said else ""
    yield f"Recurrent rows have the times of this implementation{also}."


def _ms(seconds: float) -> str:
    return f"{number(1e3 * seconds)} ms"


def _sentences(
    question: Question, rows: Sequence[Candidate], verdicts: Mapping[str, str]
) -> Iterator[str]:
    tied, unknown, open_ = (
        [name for name, verdict in verdicts.items() if verdict == kind]
        for kind in (TIED, NOT_COMPARED, OPEN)
    )
    goal = _goal(question)
    if tied:
        timed = [row.cost for row in rows if row.cost and not row.why_not]
        first = "are tied as the cheapest" if len(tied) > 1 else "is the cheapest"
        yield f"{_some(tied)} {first} of {quantity(len(timed), 'timed row')} proven to {goal}."
        if len({cost.rounds for cost in timed}) > 1:
            yield "The order of rows that were timed in other rounds is not settled."
    else:
        are = "are" if len(unknown) > 1 else "is"
        yield f"{_some(unknown) if unknown else 'No row'} {are} proven to {goal}."
    if bounded := [r.entry for r in rows if verdicts[r.entry] == DEARER and not r.cost]:
        yield f"Not timed here, and dearer at a shorter length already: {_some(bounded)}."
    if unknown:
        yield f"Not timed here in the same rounds, so not compared: {_some(unknown)}."
    if open_:
        yield f"Not settled, as the interval of the score is wide: {_some(open_)}."


def _some(names: Sequence[str]) -> str:
    """A few names, or the number of many."""
    return join_names(names) if len(names) <= 2 * NAMED else quantity(len(names), "row")


def _goal(question: Question) -> str:
    """The goal of a question, in the infinitive."""
    if (table := question.table) is None:
        return "fulfil the needs"
    if question.least is None:
        return f"be best on {table.label}, no row being ahead"
    amount = (
        f"{question.asked.score:g} {table.unit or '%'}" if question.asked.score is not None else ""
    )
    if question.asked.holds is not None:
        amount = f"a span of {question.asked.holds:g} {table.rung_of}"
    return f"reach {amount} on {table.label} with the whole of the 95 % interval"


def _scored(question: Question) -> Iterator[str]:
    """Task and settings of the scores, whose sequences are mostly shorter than those of costs."""
    if table := question.table:
        settings = table.named_settings
        shown = ("group", "seq_len", "num_layers", "embed_dim", "num_steps")
        words_ = ", ".join(f"{key} {settings[key]}" for key in shown if key in settings)
        yield f"Scores: {table.label} with {words_}."


def _caution(question: Question) -> Iterator[str]:
    """A warning where a fresh process would order the rows differently."""
    is_short = question.seq_len <= SHORT_CALLS and question.mode == "forward"
    if is_short and question.causal:
        yield (
            f"Up to about {SHORT_CALLS:,} causal tokens the order depends on what a process freed "
            "before: where freed memory is kept, gla ran at 1.1 to 1.6 times softmax's speed and "
            "linear at 2.1 to 2.7; in a fresh process at 0.5 to 0.8 and at 1.2 to 2.0."
        )


def _height(table: TaskScores, holds: float) -> float:
    """The height of a span on the ladder of a table.

    Raises:
        ConfigError: the task has no rungs, or the span is outside of them.
    """
    if not table.rungs:
        raise ConfigError(
            f"holds={holds:g} is a span, and {table.label} has no rungs. Ask for score=95 there, "
            "or take a task with rungs, e.g. task=recall_span."
        )
    low, high = table.rungs[0], table.rungs[-1]
    if not low < holds < high:
        raise ConfigError(
            f"holds={holds:g} is outside of what was tested: more than {low} and fewer than {high} "
            f"{table.rung_of}. Ask for a span between."
        )
    return height_of(holds, table.rungs)


def _check_score(table: TaskScores, score: float, task: str) -> None:
    """Refuse a share above 100 % or of a ladder, and a score in a unit that guessing betters."""
    if table.rungs:
        raise ConfigError(
            f"score={score:g} is a percentage, and {task} is scored by its span. Ask for a number "
            f"of {table.rung_of}, e.g. holds={table.rungs[len(table.rungs) // 2]}."
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


def _direction(question: Question) -> str:
    return "causal" if question.causal else "bidirectional"


def _place(question: Question) -> str:
    setting, lengths = question.timed.setting, question.timed.lengths
    assert setting is not None
    axes = setting.axes
    results = [r.result for own in question.timed.by_entry.values() for r in own.values()]
    counts = {len({*result.processes}) or 1 for result in results if isinstance(result, Speed)}
    processes = " or ".join("one process" if n == 1 else f"{n} processes" for n in sorted(counts))
    return (
        f"Times: {_direction(question)}, of {processes} a length; {setting.machine}, "
        f"{setting.device}, {quantity(setting.num_threads, 'thread')}, batch {axes['batch_size']}, "
        f"{axes['num_heads']} heads of {axes['head_dim']}, measured at "
        f"{', '.join(f'{length:,}' for length in lengths)} tokens."
    )


def _table(question: Question, rows: Sequence[Candidate], verdicts: Mapping[str, str]) -> Table:
    table = question.table
    unit, factor, digits = ("%", 0.01, ".1f")
    if table and table.unit:
        unit, factor, digits = (table.unit, 1.0, ".3f")
    score = Column("score", table.label if table else "", unit, factor, digits)
    if table and table.rungs:
        score = Column("score", f"{table.label} span", table.rung_of)
    columns = [
        words("attention"),
        words("answer"),
        *([score] if table else []),
        *([words("rates", "learning rate"), Column("seeds", digits=".0f")] if table else []),
        Column("latency", "latency", "ms", 1e-3, number, "lower"),
        words("basis", "at this length"),
        Column("state", "state", "KiB", 1024, number, "lower"),
        words("proof", "proven"),
    ]
    rounds = next((row.cost.rounds for row in rows if row.cost), frozenset[str]())
    return Table(columns=columns, rows=[_row(row, verdicts[row.entry], rounds) for row in rows])


def _row(row: Candidate, verdict: str, rounds: Collection[str] = ()) -> Row:
    """A row of the table; `rounds` are those of the cheapest."""
    said: dict[str, str | int | float | Estimate | None] = {
        "attention": row.entry,
        "answer": verdict,
        "proof": row.proof,
    }
    if row.score:
        low, high = (None, None) if row.score.is_split else row.score.shown_interval or (None, None)
        centre = row.score.centre
        said["score"] = Estimate(float("nan") if centre is None else centre, low, high)
        if row.score.spans:
            said["score"] = score_words(row.score)
        said["seeds"] = len(row.score.accuracies)
        rate = "searched" if row.score.is_searched else "shared"
        said["rates"] = "; ".join([rate, *row.score.marks])
    if row.cost:
        said["latency"] = Estimate(row.cost.seconds, row.cost.low, row.cost.high)
        basis = ["measured" if row.cost.record else "fitted"]
        basis += [] if row.cost.rounds == rounds else ["in other rounds"]
        if record := row.cost.record:
            assert isinstance(record.result, Speed)
            basis += [NOISY] if NOISY in marks(record) else []
            said["state"] = record.result.state_bytes
        said["basis"] = ", ".join(basis)
    elif row.least:
        said["basis"] = f"at least {_ms(row.least.seconds)} (at {row.least.length:,})"
    return said
