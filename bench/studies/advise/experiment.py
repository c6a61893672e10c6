"""The cheapest sweep that would separate answers, sized by the spread of stored numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from bench.core.comparison import num_seeds_for
from bench.core.format import join_names, quantity
from bench.core.record import Speed
from bench.core.statistics import MIN_ROUNDS
from bench.studies.advise.evidence import NOT_COMPARED, OPEN, TIED, Candidate, Question

MAX_MINUTES = 60
"""Longest experiment that is proposed."""

_USUAL_S = 10.0
"""Seconds that a timed cell usually takes, and a trained one whose record has none."""


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
