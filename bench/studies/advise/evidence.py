"""Evidence on each row from records and proofs: proven claims, score and cost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from attentions.catalogue import catalogue
from bench.core.cli.errors import ConfigError, check_known
from bench.core.observed import CONTROLS
from bench.core.places import CHECKOUT
from bench.core.proofs import BadgeStatus, Proofs
from bench.core.record import Record, Speed
from bench.core.seed_runs import FEWEST_SEEDS
from bench.core.statistics import median, median_interval
from bench.core.store import read_packed, read_records, stores_below
from bench.publishing.implementations import Faster, faster_implementations
from bench.publishing.leaderboard import Leaderboard, Setting, build_leaderboard
from bench.publishing.metrics.marks import NOT_SETTLED, may_be_ranked
from bench.publishing.metrics.scaling import seconds_at
from bench.publishing.metrics.speedup import ratio_between, speedup
from bench.publishing.scores import Score, TaskScores
from bench.publishing.searched import at_best_rate
from bench.studies.advise.settings import CAUSAL_MODES, Advise

KEPT = ("docs/results", "results/accuracy", "results/decode", "results/runtimes")
"""Folders of records that come with the code."""

OPEN = "not settled: a wide interval"
"""Reason against a row whose interval leaves open whether it reaches the required score."""

TIED, DEARER, NOT_COMPARED = "yes", "yes, at a higher cost", "yes, cost not compared"
"""Verdicts on rows that are answers, by their cost beside that of the cheapest."""

OTHER_ROUNDS = 1.25
"""Factor by which costs of two processes must differ to be told apart.

Speed-ups of six stored processes span 14 % or less in nine rows of ten (`tools/coverage.py`).
"""


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


# --- records --------------------------------------------------------------------------------------


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


def board_of(records: Sequence[Record]) -> Leaderboard:
    """One board of all records, on which a row has one name for its score and for its times."""
    trained = at_best_rate(record for record in records if record.cell.is_task)
    clocked = [record for record in records if not record.cell.is_task]
    return build_leaderboard([*trained, *clocked], CONTROLS, within_budget=True)


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
            if is_speed and row.rank != "control":
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


@cache
def _modules() -> dict[str, str]:
    """The module of each mechanism: read once, which takes 0.2 s, and not for each question."""
    return {entry.name: entry.module for entry in catalogue()}


def candidates(question: Question, proofs: Mapping[str, Proofs]) -> Iterator[Candidate]:
    """Every row with a score, or without a task every timed row."""
    scores, timed = rows_of(question.table), question.timed.by_entry
    modules = _modules()
    for entry in scores or timed:
        own, score = timed.get(entry, {}), scores.get(entry)
        first = score.records[0] if score else next(iter(own.values()))
        row = Candidate(
            entry=entry,
            mechanism=first.cell.mechanism,
            score=score,
            cost=cost_at(own, question.seq_len),
            least=cost_at(own, max((n for n in own if n < question.seq_len), default=0)),
        )
        proven = proofs.get(row.mechanism, Proofs())
        yield _judged(row, question, proven, modules.get(row.mechanism, ""))


def needs(mode: str, *, causal: bool, dtype: str) -> list[str]:
    """Claims that must be proven for a mechanism to be an answer."""
    return [
        "reference",
        *(["causal"] if causal else []),
        *(["recurrent"] if mode in CAUSAL_MODES else []),
        *(["gradients"] if mode in ("backward", "forward_backward", "train_step") else []),
        *(["precision"] if dtype != "float32" else []),
    ]


def unproven(proofs: Proofs, claims: Sequence[str]) -> list[str]:
    """Claims without a passed test."""
    passed = [name for name, one in proofs.badges.items() if one.status is BadgeStatus.PASSED]
    return [claim for claim in claims if claim not in passed]


def _judged(row: Candidate, question: Question, proofs: Proofs, module: str) -> Candidate:
    """The row with its proof in words, and the reason if it is not an answer.

    `module` is that of its mechanism; empty if it is not ours.
    """
    wanted = needs(question.mode, causal=question.causal, dtype=question.asked.dtype)
    lacking = unproven(proofs, wanted)
    proof = f"not proven: {', '.join(lacking)}" if lacking else ", ".join(wanted)
    is_old = proofs.is_stale(module)
    no_cost = "" if row.cost or row.least else "no time"
    why = why_no_score(row.score, question) if row.score else no_cost
    said = f"{proof} (of an earlier source)" if is_old else proof
    return replace(row, proof=said, why_not=proof if lacking else why)


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
    rows = sorted(rows, key=_by_cost)
    cheapest = next((row.cost for row in rows if row.cost and not row.why_not), None)
    found: dict[str, str] = {}
    for row in rows:
        cost = row.cost or row.least
        is_dearer = costs_more(cost, cheapest) if cost and cheapest else None
        is_tied = is_dearer is False or (cost is not None and cost is cheapest)
        by_cost = TIED if is_tied else DEARER if is_dearer else NOT_COMPARED
        found[row.entry] = row.why_not or by_cost
    return dict(sorted(found.items(), key=lambda item: item[1] != TIED))


def _by_cost(row: Candidate) -> tuple[bool, bool, float]:
    """Sort key: answers first, and of these, rows with a cost at this length."""
    if row.why_not:
        return True, True, 0.0
    cost = row.cost or row.least
    return False, row.cost is None, cost.seconds if cost else math.inf
