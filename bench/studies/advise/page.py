"""The answer in a line, the rows behind it with their reasons, and how to separate them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from statistics import fmean, stdev
from typing import NamedTuple

from bench.core.comparison import num_seeds_for
from bench.core.format import join_names, number, quantity
from bench.core.record import REFERENCE, Speed
from bench.core.rows import recurrent_mechanisms
from bench.core.statistics import MIN_ROUNDS
from bench.publishing.document import (
    Block,
    Column,
    Estimate,
    Heading,
    Row,
    Table,
    Text,
    Value,
    words,
)
from bench.publishing.metrics.marks import NOISY, marks
from bench.publishing.scores import score_words
from bench.studies.advise.evidence import (
    DEARER,
    NOT_COMPARED,
    OPEN,
    TIED,
    Candidate,
    Question,
    cost_at,
    is_flat,
    told_apart,
)

NAMED, NEAR = 3, 1.5
"""Most rows that the first line names, and their greatest cost as a multiple of the cheapest."""

SHORT_CALLS = 1024
"""Most tokens of a causal call whose order depends on what the process freed before."""

MAX_MINUTES = 60
"""Longest experiment that is proposed."""

_USUAL_S = 10.0
"""Seconds that a timed cell usually takes, and a trained one whose record has none."""


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
            f"Up to about {SHORT_CALLS:,} causal tokens the order also depends on what a process "
            "freed before."
        )


def direction(question: Question) -> str:
    """``causal`` or ``bidirectional``."""
    return "causal" if question.causal else "bidirectional"


def _place(question: Question) -> str:
    setting, lengths = question.timed.setting, question.timed.lengths
    assert setting is not None
    axes = setting.axes
    results = [r.result for own in question.timed.by_entry.values() for r in own.values()]
    counts = {len({*result.processes}) or 1 for result in results if isinstance(result, Speed)}
    processes = " or ".join("one process" if n == 1 else f"{n} processes" for n in sorted(counts))
    return (
        f"Times: {direction(question)}, of {processes} a length; {setting.machine}, "
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
    shown: dict[str, Value] = {"attention": row.entry, "answer": verdict, "proof": row.proof}
    if score := row.score:
        ends = None if score.is_split else score.shown_interval
        centre = float("nan") if score.centre is None else score.centre
        shown["score"] = score_words(score) if score.spans else Estimate(centre, *(ends or ()))
        shown["seeds"] = len(score.accuracies)
        shown["rates"] = "; ".join(["searched" if score.is_searched else "shared", *score.marks])
    if row.cost:
        shown["latency"] = Estimate(row.cost.seconds, row.cost.low, row.cost.high)
        basis = ["measured" if row.cost.record else "fitted"]
        basis += [] if row.cost.rounds == rounds else ["in other rounds"]
        if record := row.cost.record:
            assert isinstance(record.result, Speed)
            basis += [NOISY] if NOISY in marks(record) else []
            shown["state"] = record.result.state_bytes
        shown["basis"] = ", ".join(basis)
    elif row.least:
        shown["basis"] = f"at least {_ms(row.least.seconds)} (at {row.least.length:,})"
    return shown


# --- the cheapest experiment ----------------------------------------------------------------------


class Experiment(NamedTuple):
    """A command, what it would separate, and its time on the machine of the records."""

    command: str
    purpose: str
    minutes: float


def sweep_of(question: Question, rows: Iterable[str]) -> str:
    """The command that times some rows as a question asks; softmax and linear if none are named."""
    asked = question.asked
    setting = {
        "attention": f"[{','.join(_entries(rows) or ('softmax', 'linear'))}]",
        "task": "[]",
        "seq_len": f"[{question.seq_len}]",
        "mode": question.mode,
        "causal": str(question.causal).lower(),
        **({"batch_size": asked.batch_size} if asked.batch_size > 1 else {}),
        **({"dtype": asked.dtype} if asked.dtype != "float32" else {}),
    }
    quoted = [f"{k}={v}" if "[" not in str(v) else f"'{k}={v}'" for k, v in setting.items()]
    return " ".join(["attnbench sweep", *quoted])


def _entries(rows: Iterable[str]) -> list[str]:
    """The entries of rows, whose names may end with their settings."""
    return [*dict.fromkeys(name.partition(" ")[0] for name in rows)]


def cheapest(
    question: Question, rows: Sequence[Candidate], verdicts: Mapping[str, str]
) -> Experiment | None:
    """The shortest experiment that would reduce the answers, or settle whether a row is one.

    None if each would take longer than `MAX_MINUTES`.
    """
    tied = [row for row in rows if verdicts[row.entry] == TIED]
    unknown = [row for row in rows if verdicts[row.entry] == NOT_COMPARED]
    found = [*_timing(question, [*tied, *unknown]), *_more_seeds(question, rows)]
    affordable = [one for one in found if one.minutes <= MAX_MINUTES]
    return min(affordable, key=lambda one: one.minutes, default=None)


def _timing(question: Question, rows: Sequence[Candidate]) -> Iterator[Experiment]:
    """Time those that may be the cheapest side by side, in as many processes as an interval needs.

    Nothing if they were already.
    """
    names = sorted(_entries(row.entry for row in rows))
    costs = [row.cost for row in rows]
    timed = [cost.record.result for cost in costs if cost and cost.record]
    counts = [len({*speed.processes}) for speed in timed if isinstance(speed, Speed)]
    is_done = len(counts) == len(rows) and min(counts, default=0) >= MIN_ROUNDS
    if len(names) < 2 or (is_done and len({cost.rounds for cost in costs if cost}) == 1):
        return
    yield Experiment(
        f"{sweep_of(question, names)} measure.num_processes={MIN_ROUNDS} force=true",
        f"time these rows side by side, in {MIN_ROUNDS} processes.",
        len(names) * _USUAL_S / 60,
    )


def _more_seeds(question: Question, rows: Sequence[Candidate]) -> Iterator[Experiment]:
    """More seeds of each row that is not settled, beside the first answer if the best is asked.

    As many as tell the gaps of the stored seeds from 0, less those that are there.
    """
    best = [row for row in rows if not row.why_not][: question.least is None]
    for row in (row for row in rows if row.score and row.why_not == OPEN):
        pair = [*best, row]
        scores = [one.score for one in pair if one.score]
        known = [score.runs.known for score in scores]
        shared = known[0].keys() & known[-1].keys()
        goals = known[0] if best else dict.fromkeys(shared, question.least)
        gaps = [known[-1][n] - goal for n in shared if (goal := goals[n]) is not None]
        needed = num_seeds_for(fmean(gaps), stdev(gaps)) if len(gaps) > 1 else None
        seeds = {seed for score in scores for seed, _ in score.by_seed}
        if question.table is None or needed is None or needed <= len(seeds):
            continue
        new = range(max(seeds) + 1, max(seeds) + 1 + needed - len(seeds))
        costs = (fmean(r.cost_s.get("total", _USUAL_S) for r in score.records) for score in scores)
        sweep = [f"attnbench sweep 'attention=[{','.join(_entries(r.entry for r in pair))}]'"]
        sweep += ["'seq_len=[]'", f"'task=[{question.table.label}]'", *question.overrides]
        yield Experiment(
            " ".join([*sweep, f"'seed=[{','.join(map(str, new))}]'"]),
            f"{quantity(len(new), 'seed')} more of {join_names([r.entry for r in pair])} would "
            "settle it, with 80 % power.",
            len(new) * sum(costs) / 60,
        )
