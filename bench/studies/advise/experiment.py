"""The cheapest sweep that would separate answers, sized by the spread of stored numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, stdev

from bench.core.comparison import num_seeds_for
from bench.core.format import quantity
from bench.core.record import Record, Speed
from bench.core.statistics import median
from bench.publishing.metrics.speedup import round_ratios
from bench.studies.advise.evidence import OPEN, Candidate, Question

MAX_MINUTES = 60
"""Longest experiment that is proposed."""

_USUAL_S = 10.0
"""Seconds of a timed cell if no record has them."""


@dataclass(frozen=True)
class Experiment:
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
    names = sorted(_entries(row.entry for row in rows if not row.why_not))
    timed = (record for record in records if isinstance(record.result, Speed))
    spent = [cost_s for record in timed if (cost_s := record.cost_s.get("total"))]
    minutes = len(names) * (fmean(spent) if spent else _USUAL_S) / 60
    yield Experiment(sweep_of(question, names), "time these rows side by side.", minutes)


def _more_rounds(question: Question, chosen: Sequence[Candidate]) -> Iterator[Experiment]:
    """More rounds of each pair of answers that were timed together, if all were timed."""
    records = {row.entry: row.cost.record for row in chosen if row.cost and row.cost.record}
    if len(records) < len(chosen):
        return
    for one, other in combinations(records, 2):
        pair = [records[one], records[other]]
        speeds = [record.result for record in pair if isinstance(record.result, Speed)]
        mine, theirs = map(round_ratios, pair)
        apart = [math.log(mine[at] / theirs[at]) for at in sorted(mine.keys() & theirs.keys())]
        rounds = num_seeds_for(fmean(apart), stdev(apart)) if len(apart) > 1 else None
        if rounds is None or len({(s.reference_key, s.rounds_key) for s in speeds}) > 1:
            continue
        sample_s = sum((median(s.latency_s) or 0.0) * s.calls_per_sample for s in speeds)
        calls_s, sweep = rounds * sample_s, sweep_of(question, sorted([one, other]))
        yield Experiment(
            f"{sweep} force=true measure.target_half_width=0.001 "
            f"measure.min_rounds={rounds} measure.max_rounds={rounds} "
            f"measure.budget_s={max(1, round(2 * calls_s))}",
            f"{rounds:,} rounds tell {one} from {other} with 80 % power.",
            (calls_s + 2 * _USUAL_S) / 60,
        )


def _more_seeds(
    question: Question, chosen: Sequence[Candidate], rows: Sequence[Candidate]
) -> Iterator[Experiment]:
    """More seeds of each row that may reach the required score, or of each pair of answers."""
    if question.table is None:
        return
    if (least := question.least) is not None:
        for row in rows:
            if row.score and row.why_not == OPEN:
                gaps = [score - least for score in row.score.accuracies]
                yield from _seeds(question, [row], gaps, "tell whether it gets there")
        return
    for one, other in combinations(chosen, 2):
        assert one.score and other.score
        mine, theirs = one.score.runs.known, other.score.runs.known
        gaps = [mine[seed] - theirs[seed] for seed in mine.keys() & theirs.keys()]
        yield from _seeds(question, [one, other], gaps, "tell their scores apart")


def _seeds(
    question: Question, rows: Sequence[Candidate], gaps: Sequence[float], purpose: str
) -> Iterator[Experiment]:
    """As many seeds as tell these gaps, one for each seed, from 0, less those that are there."""
    assert question.table is not None
    scores = [row.score for row in rows if row.score]
    known = {seed for score in scores for seed, _ in score.by_seed}
    needed = num_seeds_for(fmean(gaps), stdev(gaps)) if len(gaps) > 1 else None
    if needed is None or needed <= len(known):
        return
    new = range(max(known) + 1, max(known) + 1 + needed - len(known))
    costs = (fmean(r.cost_s.get("total", _USUAL_S) for r in score.records) for score in scores)
    entries = ",".join(row.entry.partition(" ")[0] for row in rows)
    joined = " and ".join(row.entry for row in rows)
    sweep = [f"attnbench sweep 'attention=[{entries}]'"]
    sweep += ["'seq_len=[]'", f"'task=[{question.table.label}]'", *question.overrides]
    yield Experiment(
        " ".join([*sweep, f"'seed=[{','.join(map(str, new))}]'"]),
        f"{quantity(len(new), 'seed')} more of {joined} would {purpose}, with 80 % power.",
        len(new) * sum(costs) / 60,
    )
