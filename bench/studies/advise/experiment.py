"""The cheapest sweep that would separate answers, sized by the spread of stored numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, stdev

import numpy as np

from bench.core.comparison import num_seeds_for
from bench.core.format import quantity
from bench.core.record import Record, Speed
from bench.publishing.metrics.speedup import round_ratios
from bench.studies.advise.evidence import OPEN, Candidate, Question
from bench.studies.advise.settings import Advise

MAX_MINUTES = 60
"""Longest experiment that is proposed."""

_USUAL_S = 10.0
"""Seconds of a timed cell if no record has them."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A command, what it would separate, and its time on the machine of the records."""

    command: str
    purpose: str
    minutes: float


def sweep_of(
    asked: Advise, entries: Sequence[str], lengths: Sequence[int], mode: str, causal: bool
) -> str:
    """The command that times some rows in the requested setting; softmax and linear if none."""
    entries = [*dict.fromkeys(map(_entry, entries))] or ["softmax", "linear"]
    setting = {
        "attention": f"[{','.join(entries)}]",
        "task": "[]",
        "seq_len": f"[{','.join(map(str, lengths))}]",
        "mode": mode,
        "causal": str(causal).lower(),
        **({"batch_size": asked.batch_size} if asked.batch_size > 1 else {}),
        **({"dtype": asked.dtype} if asked.dtype != "float32" else {}),
    }
    quoted = [f"{k}={v}" if "[" not in str(v) else f"'{k}={v}'" for k, v in setting.items()]
    return " ".join(["attnbench sweep", *quoted])


def cheapest(
    question: Question,
    chosen: Sequence[Candidate],
    rows: Sequence[Candidate],
    records: Sequence[Record],
) -> Experiment | None:
    """The shortest experiment that would reduce the answers, or settle whether a row is one.

    None if each would take longer than `MAX_MINUTES`.
    """
    found = [
        *_timing(question, chosen, rows, records),
        *_more_rounds(question, chosen),
        *_more_seeds(question, chosen, rows),
    ]
    affordable = [one for one in found if one.minutes <= MAX_MINUTES]
    return min(affordable, key=lambda one: one.minutes, default=None)


def _timing(
    question: Question,
    chosen: Sequence[Candidate],
    rows: Sequence[Candidate],
    records: Sequence[Record],
) -> Iterator[Experiment]:
    """Time all answers side by side, if one that may be the cheapest has no cost."""
    if len(chosen) < 2 or all(row.cost for row in chosen):
        return
    entries = sorted({_entry(row.entry) for row in rows if not row.why_not})
    spent = [
        record.cost_s.get("total", 0.0)
        for record in records
        if isinstance(record.result, Speed) and record.cost_s.get("total")
    ]
    seconds = len(entries) * (fmean(spent) if spent else _USUAL_S)
    command = sweep_of(question.asked, entries, [question.seq_len], question.mode, question.causal)
    yield Experiment(
        command=command,
        purpose="time these rows side by side.",
        minutes=seconds / 60,
    )


def _entry(name: str) -> str:
    """The entry of a row whose name may end with its settings."""
    return name.partition(" ")[0]


def _more_rounds(question: Question, chosen: Sequence[Candidate]) -> Iterator[Experiment]:
    """More rounds of the pair of answers timed together that is easiest to tell apart."""
    priced = [row for row in chosen if row.cost and row.cost.record]
    if len(priced) < 2 or len(priced) < len(chosen):
        return
    sizes = []
    for one, other in combinations(priced, 2):
        assert one.cost and one.cost.record and other.cost and other.cost.record
        if _rounds_of(one.cost.record) != _rounds_of(other.cost.record):
            continue
        mine, theirs = round_ratios(one.cost.record), round_ratios(other.cost.record)
        both = sorted(mine.keys() & theirs.keys())
        if len(both) < 2:
            continue
        apart = [float(np.log(mine[r] / theirs[r])) for r in both]
        if number := num_seeds_for(fmean(apart), stdev(apart)):
            sizes.append((number, one, other))
    if not sizes:
        return
    rounds, one, other = min(sizes, key=lambda size: size[0])
    assert one.cost and other.cost
    calls = rounds * sum(_sample_s(row) for row in (one, other))
    entries = sorted({_entry(one.entry), _entry(other.entry)})
    sweep = sweep_of(question.asked, entries, [question.seq_len], question.mode, question.causal)
    budget = max(1, round(2 * calls))
    yield Experiment(
        command=f"{sweep} force=true measure.target_half_width=0.001 measure.min_rounds={rounds} "
        f"measure.max_rounds={rounds} measure.budget_s={budget}",
        purpose=f"{rounds:,} rounds tell {one.entry} from {other.entry} with 80 % power.",
        minutes=(calls + 2 * _USUAL_S) / 60,
    )


def _rounds_of(record: Record) -> tuple[str, str]:
    """Keys of the reference and of the rounds; records with equal ones were timed together."""
    assert isinstance(record.result, Speed)
    return record.result.reference_key, record.result.rounds_key


def _sample_s(row: Candidate) -> float:
    assert row.cost
    result = row.cost.record.result if row.cost.record else None
    return row.cost.seconds * (result.calls_per_sample if isinstance(result, Speed) else 1)


def _more_seeds(
    question: Question, chosen: Sequence[Candidate], rows: Sequence[Candidate]
) -> Iterator[Experiment]:
    """More seeds of each row that may reach the required score, or of each pair of answers."""
    if question.table is None:
        return
    if question.least is not None:
        for row in rows:
            if row.score and row.why_not == OPEN:
                scores = row.score.accuracies
                needed = num_seeds_for(fmean(scores) - question.least, stdev(scores))
                yield from _seeds(question, [row], needed, "tell whether it gets there")
        return
    for one, other in combinations(chosen, 2):
        assert one.score and other.score
        mine, theirs = dict(one.score.by_seed), dict(other.score.by_seed)
        gaps = [
            a - b
            for seed in mine.keys() & theirs.keys()
            if (a := mine[seed]) is not None and (b := theirs[seed]) is not None
        ]
        if len(gaps) > 1:
            needed = num_seeds_for(fmean(gaps), stdev(gaps))
            yield from _seeds(question, [one, other], needed, "tell their scores apart")


def _seeds(
    question: Question, rows: Sequence[Candidate], needed: int | None, purpose: str
) -> Iterator[Experiment]:
    assert question.table is not None
    known = {seed for row in rows if row.score for seed, _ in row.score.by_seed}
    if needed is None or needed <= len(known):
        return
    new = range(max(known) + 1, max(known) + 1 + needed - len(known))
    seconds = len(new) * sum(
        fmean(r.cost_s.get("total", _USUAL_S) for r in row.score.records)
        for row in rows
        if row.score
    )
    names = ",".join(_entry(row.entry) for row in rows)
    joined = " and ".join(row.entry for row in rows)
    seeds = ",".join(map(str, new))
    sweep = ["attnbench sweep", f"'attention=[{names}]'", "'seq_len=[]'"]
    sweep += [f"'task=[{question.table.label}]'"]
    yield Experiment(
        command=" ".join([*sweep, *question.overrides, f"'seed=[{seeds}]'"]),
        purpose=f"{quantity(len(new), 'seed')} more of {joined} would {purpose}, with 80 % power.",
        minutes=seconds / 60,
    )
