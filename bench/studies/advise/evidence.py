"""The question, and the evidence on each row from records and proofs: claims, score and cost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Annotated, Any, NamedTuple

from bench.core.cell import DTYPES, MODES
from bench.core.cli.errors import ConfigError, check_known
from bench.core.proofs import BadgeStatus, Proofs
from bench.core.record import Record, Speed
from bench.core.seed_runs import FEWEST_SEEDS
from bench.core.settings import (
    BeforeValidator,
    Folder,
    Group,
    Interval,
    Many,
    Settings,
    Some,
    Word,
    chosen,
    model_validator,
)
from bench.core.statistics import median, median_interval
from bench.publishing.implementations import Faster, faster_implementations
from bench.publishing.leaderboard import Leaderboard, Setting
from bench.publishing.metrics.marks import NOT_SETTLED, may_be_ranked
from bench.publishing.metrics.scaling import seconds_at
from bench.publishing.metrics.speedup import ratio_between, speedup
from bench.publishing.scores import Score, TaskScores

OPEN = "not settled: a wide interval"
"""Reason against a row whose interval leaves open whether it reaches the required score."""

TIED, DEARER, NOT_COMPARED = "yes", "yes, at a higher cost", "yes, cost not compared"
"""Verdicts on rows that are answers, by their cost beside that of the cheapest."""

OTHER_ROUNDS = 1.25
"""Factor by which costs of two processes must differ to be told apart.

Speed-ups of six stored processes span 14 % or less in nine rows of ten (`tools/coverage.py`).
"""


CAUSAL_MODES = ("prefill", "decode")
"""Modes in which a token sees only those before it."""


def _one_name(composed: Any) -> str | None:
    names = list(composed or ())
    if len(names) > 1:
        raise ConfigError(f"task names {len(names)} tasks; one is asked about. Say task=recall.")
    return names[0] if names else None


class Advise(Settings):
    """Say which mechanisms fulfil some needs, as far as stored records prove it, and at what cost.

    Those that the records cannot tell apart are named together, with the cheapest experiment that
    would separate them.
    """

    seq_len: Many[Annotated[int, Interval(ge=1)]] = (4096,)
    """Tokens of a call, or of the context that a token is decoded on; within what was measured."""
    mode: Many[Annotated[str, Word(lambda: MODES)]] = ("forward",)
    """Call that is to be cheap: forward, forward_backward, prefill, decode and so on."""
    task: Annotated[str | None, Group("task"), BeforeValidator(_one_name)] = chosen(())
    """Task that has to be solved; none: any mechanism will do."""
    score: Annotated[float, Interval(ge=0.0)] | None = None
    """Least score on it, in percent, or greatest in the unit of a task that has one; null: the
    best that was reached.
    """
    holds: Annotated[float, Interval(gt=0)] | None = None
    """Least span on a task with rungs, such as 32 pairs; without a task, on recall_span in the
    direction asked for.
    """
    causal: bool | None = None
    """Whether a token sees only those before it; null: as the task has it, and in decode."""
    batch_size: Annotated[int, Interval(ge=1)] = 1
    """Sequences of a call."""
    dtype: Annotated[str, Word(lambda: DTYPES)] = "float32"
    """Type of the numbers."""
    records: Some[Folder] = ()
    """Folders to look for records in; empty: docs/results and results/{accuracy,decode,runtimes} of
    the code, and results/ here.
    """
    page: Folder | None = None
    """File to write the answer to, e.g. docs/results/advice.md."""

    @model_validator(mode="after")
    def _is_one_question(self) -> Advise:
        if self.causal is False and (own := [mode for mode in self.mode if mode in CAUSAL_MODES]):
            raise ValueError(
                f"causal=false beside mode={own[0]}, in which a token sees only those before it. "
                "Leave causal out, or ask for mode=forward."
            )
        if self.score is not None and self.holds is not None:
            raise ValueError(
                "score and holds both say what has to be reached. Leave one of them out."
            )
        if self.score is not None and self.task is None:
            raise ValueError(
                f"score={self.score:g} is a score on no task. Name one, e.g. task=recall_causal."
            )
        return self


class Cost(NamedTuple):
    """Median seconds of a call and their 95 % interval; without a record, by a fit.

    `rounds` are keys of the rounds that it comes from, and `length` is the number of tokens.
    """

    seconds: float
    low: float
    high: float
    record: Record | None = None
    rounds: frozenset[str] = frozenset()
    length: int = 0


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A row of the table.

    Attributes:
        why_not: reason why it is not an answer; empty if it may be one.
        proof: which of the required claims are proven, in words.
        score: on the task; None without a task.
        cost: None if nothing was measured at this length or around it.
        least: without a cost, that at the longest measured length below: a lower bound.
    """

    entry: str
    mechanism: str
    why_not: str = ""
    proof: str = ""
    score: Score | None = None
    cost: Cost | None = None
    least: Cost | None = None


@dataclass(frozen=True, kw_only=True)
class Timed:
    """Timed records of one setting, chosen by `timed`.

    Attributes:
        setting: None if nothing was timed in such a setting.
        by_entry: records by row and by length, without controls.
        faster: row -> another implementation that is faster, with the length of their rounds, which
            may be of another machine or number of heads.
    """

    setting: Setting | None = None
    by_entry: Mapping[str, Mapping[int, Record]] = field(default_factory=dict)
    faster: Mapping[str, tuple[Faster, int]] = field(default_factory=dict)

    @property
    def lengths(self) -> list[int]:
        """Measured lengths, ascending."""
        return sorted({length for own in self.by_entry.values() for length in own})


@dataclass(frozen=True, kw_only=True)
class Question:
    """One length and mode of a request.

    Attributes:
        causal: whether a token sees only those before it.
        table: scores on the task; None without a task.
        overrides: overrides of the command line that give the task the settings of these scores.
        least: the required score, as a share or in the task's unit; None for the best.
        timed: costs of calls in this setting.
    """

    asked: Advise
    seq_len: int
    mode: str
    causal: bool
    table: TaskScores | None
    overrides: Sequence[str]
    least: float | None
    timed: Timed = field(default_factory=Timed)


# --- scores and costs -----------------------------------------------------------------------------


def task_of(name: str, wanted: Mapping[str, object], tasks: Sequence[TaskScores]) -> TaskScores:
    """The table of a task with the most seeds, and of these the one with the most rows.

    Args:
        name: of the task.
        wanted: settings that it must have, such as a group.
        tasks: all tables.

    Raises:
        ConfigError: no table is of this task with these settings.
    """
    labels = {task.label for task in tasks}
    check_known(name, labels, f"No score on task={name} is stored.")
    own = [task for task in tasks if task.label == name]
    for key, value in wanted.items():
        known = sorted({str(task.named_settings.get(key)) for task in own})
        own = [task for task in own if task.named_settings.get(key) == value]
        if not own:
            raise ConfigError(
                f"No score on task={name} with {key}={value} is stored. Known: {', '.join(known)}."
            )
    return max(own, key=lambda task: (task.num_seeds, len(task.scores)))


def rows_of(table: TaskScores | None) -> dict[str, Score]:
    """Scores of a table by row, without controls and skipped rows; none without a table."""
    scores = table.scores if table else ()
    return {s.entry: s for s in scores if not (s.is_control or s.is_skipped)}


def timed(board: Leaderboard, question: Question) -> Timed:
    """Choose the setting whose records give the costs of a question's calls, causal or not.

    A setting whose lengths include the asked one is preferred, then the one with the most rows that
    have a score, then the newest. The question's own `timed` is not read.
    """
    asked, scores = question.asked, rows_of(question.table)
    wanted: dict[str, Any] = {"scope": "core", "mode": question.mode}
    wanted |= {"dtype": asked.dtype, "batch_size": asked.batch_size, "causal": question.causal}
    found: dict[Setting, dict[str, dict[int, Record]]] = {}
    faster: dict[str, tuple[Faster, int]] = {}
    for ranking in sorted(board.rankings, key=lambda one: -abs(one.size - question.seq_len)):
        setting = ranking.setting
        about = {key: getattr(setting.workload, key, None) for key in wanted}
        if setting.extras or about != wanted:
            continue
        others = faster_implementations(ranking.standings)
        faster |= {entry: (other, ranking.size) for entry, other in others.items()}
        for row in ranking.standings:
            is_speed = isinstance(row.record.result, Speed) and may_be_ranked(row.record)
            if is_speed and not row.is_control:
                own = found.setdefault(setting, {}).setdefault(row.entry, {})
                own[ranking.size] = row.record

    def order(one: Timed) -> tuple[bool, int, str]:
        records = [record for own in one.by_entry.values() for record in own.values()]
        covers = one.lengths[0] <= question.seq_len <= one.lengths[-1]
        rows = one.by_entry.keys() & {*(scores or one.by_entry)}
        return covers, len(rows), max(record.started_at for record in records)

    every = (Timed(setting=setting, by_entry=rows) for setting, rows in found.items())
    return replace(max(every, key=order, default=Timed()), faster=faster)


def cost_at(by_length: Mapping[int, Record], length: int) -> Cost | None:
    """Cost at a length: measured there, or by a fit within the measured range; else None.

    Nothing is extrapolated.
    """
    results = {n: r.result for n, r in by_length.items() if isinstance(r.result, Speed)}
    if length in results:
        samples, own = results[length].latency_s, results[length].rounds_key
        interval = median_interval(samples) or (0.0, math.inf)
        rounds = frozenset([own] if own else ())
        return Cost(median(samples) or 0.0, *interval, by_length[length], rounds, length)
    if found := seconds_at(by_length, length):
        return Cost(found[0], *found[1], None, frozenset(r.rounds_key for r in results.values()))
    return None


def costs_more(one: Cost, other: Cost) -> bool | None:
    """Whether a call costs more than another; None if that is not known.

    Of one process, ratios within its rounds decide. Of two processes, only a difference beyond
    `OTHER_ROUNDS` counts: in speed-up over one reference, or else in seconds.
    """
    if one.rounds and one.rounds == other.rounds:
        if one.record and other.record:
            ratio = ratio_between(one.record, other.record)
            return bool(ratio and ratio.high is not None and ratio.high < 1)
        return one.low > other.high
    both = [cost.record for cost in (one, other) if cost.record]
    ratios = [ratio for record in both if (ratio := speedup(record)) and ratio.low is not None]
    references = {r.result.reference_key for r in both if isinstance(r.result, Speed)}
    if len(ratios) == 2 and len(references) == 1:
        mine, theirs = ratios
        return (theirs.low or 0.0) > OTHER_ROUNDS * (mine.high or math.inf) or None
    return one.low > OTHER_ROUNDS * other.high or None


def is_flat(by_length: Mapping[int, Record]) -> bool:
    """Whether neither state nor time grows over the measured lengths, two or more."""
    results = [r.result for r in by_length.values() if isinstance(r.result, Speed)]
    times = [median(result.latency_s) or math.inf for result in results]
    states = {result.state_bytes for result in results}
    is_one_size = len(results) > 1 and len(states) == 1 and None not in states
    return is_one_size and max(times) <= OTHER_ROUNDS * min(times)


# --- candidates -----------------------------------------------------------------------------------


def candidates(
    question: Question, proofs: Mapping[str, Proofs], modules: Mapping[str, str]
) -> Iterator[Candidate]:
    """Every row with a score, or without a task every timed row; `modules` are of mechanisms."""
    wanted = needs(question.mode, causal=question.causal, dtype=question.asked.dtype)
    scores, timed = rows_of(question.table), question.timed.by_entry
    for entry in scores or timed:
        own, score = timed.get(entry, {}), scores.get(entry)
        mechanism = (score.records[0] if score else next(iter(own.values()))).cell.mechanism
        cost = cost_at(own, question.seq_len)
        least = cost_at(own, max((n for n in own if n < question.seq_len), default=0))
        known = proofs.get(mechanism, Proofs())
        passed = [name for name, b in known.badges.items() if b.status is BadgeStatus.PASSED]
        lacking = [claim for claim in wanted if claim not in passed]
        proof = f"not proven: {', '.join(lacking)}" if lacking else ", ".join(wanted)
        no_cost = "" if cost or least else "no time"
        why_not = why_no_score(score, question) if score else no_cost
        is_old = known.is_stale(modules.get(mechanism, ""))
        yield Candidate(
            entry=entry,
            mechanism=mechanism,
            why_not=proof if lacking else why_not,
            proof=f"{proof} (of an earlier source)" if is_old else proof,
            score=score,
            cost=cost,
            least=least,
        )


def needs(mode: str, *, causal: bool, dtype: str) -> list[str]:
    """Claims that must be proven for a mechanism to be an answer."""
    return [
        "reference",
        *(["causal"] if causal else []),
        *(["recurrent"] if mode in CAUSAL_MODES else []),
        *(["gradients"] if mode in ("backward", "forward_backward", "train_step") else []),
        *(["precision"] if dtype != "float32" else []),
    ]


def why_no_score(score: Score, question: Question) -> str:
    """Reason why a score is not the required one; empty if it is."""
    interval, table = score.interval, question.table
    assert table is not None
    if not score.may_be_ranked:
        # Scores are within a budget of steps, so that a run need not have settled.
        grounds = [mark for mark in score.marks if mark != NOT_SETTLED]
        return f"not ranked: {grounds[0] if grounds else 'marked'}"
    if interval is None or len(score.accuracies) < FEWEST_SEEDS:
        return f"fewer than {FEWEST_SEEDS} seeds"
    if question.least is None:
        leaders = table.ranks.leaders() if table.ranks else ()
        if not table.ranks or score.entry not in leaders:
            return "another row is ahead"
        # A row that scores less than one which is behind is a leader by its wide interval alone.
        better = [s.entry for s in takewhile(lambda s: s.entry != score.entry, table.scores)]
        return OPEN if {*better} & {*table.ranks.names} - {*leaders} else ""
    sign = -1 if table.unit else 1
    low, high = sorted(sign * end for end in interval)
    if low >= sign * question.least:
        return ""
    return OPEN if high >= sign * question.least else "falls short"


def told_apart(rows: Iterable[Candidate]) -> dict[str, str]:
    """The verdict on each row: those tied as the cheapest first, others by cost, then no answers.

    A lower bound of a cost, from a shorter length, can only show that a row costs more.
    """

    def order(row: Candidate) -> tuple[bool, bool, float]:
        cost = row.cost or row.least
        seconds = cost.seconds if cost else math.inf
        return (True, True, 0.0) if row.why_not else (False, row.cost is None, seconds)

    rows = sorted(rows, key=order)
    cheapest = next((row.cost for row in rows if row.cost and not row.why_not), None)
    found: dict[str, str] = {}
    for row in rows:
        cost = row.cost or row.least
        is_dearer = costs_more(cost, cheapest) if cost and cheapest else None
        is_tied = is_dearer is False or (cost is not None and cost is cheapest)
        by_cost = TIED if is_tied else DEARER if is_dearer else NOT_COMPARED
        found[row.entry] = row.why_not or by_cost
    return dict(sorted(found.items(), key=lambda item: item[1] != TIED))
