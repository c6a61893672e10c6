"""Evidence on each row from records and proofs: proven claims, score and cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
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
from bench.publishing.leaderboard import Leaderboard, Setting, build_leaderboard
from bench.publishing.metrics.marks import NOT_SETTLED, may_be_ranked
from bench.publishing.metrics.ranks import rank_speed
from bench.publishing.metrics.scaling import seconds_at
from bench.publishing.scores import Score, TaskScores
from bench.publishing.searched import at_best_rate, searched_row
from bench.studies.advise.settings import CAUSAL_MODES, Advise

KEPT = ("docs/results", "results/accuracy", "results/decode")
"""Folders of records that come with the code."""

OPEN = "not settled whether it gets there"
"""Reason against a row whose interval contains the required score."""


class Cost(NamedTuple):
    """Median seconds of a call and their 95 % interval; without a record, by a fit."""

    seconds: float
    low: float
    high: float
    record: Record | None = None


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A row of the table.

    Attributes:
        why_not: reason why it is not an answer; empty if it may be one.
        proof: which of the required claims are proven, in words.
        score: on the task; None without a task.
        num_rates: number of learning rates of which its score is the best.
        cost: None if nothing was measured.
    """

    entry: str
    mechanism: str
    why_not: str = ""
    proof: str = ""
    score: Score | None = None
    num_rates: int = 0
    cost: Cost | None = None


@dataclass(frozen=True, kw_only=True)
class Timed:
    """Timed records of one setting, chosen by `timed`.

    Attributes:
        setting: None if nothing was timed in such a setting.
        by_entry: records by row and by length, without controls.
    """

    setting: Setting | None = None
    by_entry: Mapping[str, Mapping[int, Record]] = field(default_factory=dict)

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


def timed(board: Leaderboard, question: Question, *, whatever_mask: bool = False) -> Timed:
    """Choose the setting whose records give the costs of a question's calls, causal or not.

    A setting whose lengths include the asked one is preferred, then the one with the most rows that
    have a score, then the newest.

    Args:
        board: of all records.
        question: its `timed` is not read.
        whatever_mask: whether a bidirectional setting will do for a causal question, and reversely.
    """
    asked, scores = question.asked, rows_of(question.table)
    wanted: dict[str, Any] = {"scope": "core", "mode": question.mode}
    wanted |= {"dtype": asked.dtype, "batch_size": asked.batch_size}
    wanted |= {} if whatever_mask else {"causal": question.causal}
    found: dict[Setting, dict[str, dict[int, Record]]] = {}
    for ranking in board.rankings:
        setting = ranking.setting
        about = {key: getattr(setting.workload, key, None) for key in wanted}
        if setting.extras or about != wanted:
            continue
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
    return max(every, key=order, default=Timed())


def cost_at(by_length: Mapping[int, Record], length: int) -> Cost | None:
    """Cost at a length: measured there, or by a fit within the measured range; else None.

    Nothing is extrapolated.
    """
    if (record := by_length.get(length)) and isinstance(record.result, Speed):
        samples = record.result.latency_s
        interval = median_interval(samples) or (0.0, math.inf)
        return Cost(median(samples) or 0.0, *interval, record)
    if found := seconds_at(by_length, length):
        return Cost(found[0], *found[1])
    return None


# --- candidates -----------------------------------------------------------------------------------


@cache
def _modules() -> dict[str, str]:
    """The module of each mechanism: read once, which takes 0.2 s, and not for each question."""
    return {entry.name: entry.module for entry in catalogue()}


def candidates(
    question: Question, records: Sequence[Record], proofs: Mapping[str, Proofs]
) -> Iterator[Candidate]:
    """Every row with a score, or without a task every timed row."""
    scores, timed = rows_of(question.table), question.timed.by_entry
    modules = _modules()
    rates: dict[object, set[object]] = {}
    for trained in (record for record in records if record.cell.is_task):
        rate = trained.cell.task.settings.get("learning_rate")
        rates.setdefault(searched_row(trained), set()).add(rate)
    for entry in scores or timed:
        own, score = timed.get(entry, {}), scores.get(entry)
        first = score.records[0] if score else next(iter(own.values()))
        row = Candidate(
            entry=entry,
            mechanism=first.cell.mechanism,
            score=score,
            num_rates=len(rates[searched_row(first)]) if score else 0,
            cost=cost_at(own, question.seq_len),
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
    no_cost = "" if row.cost else "no time at this length"
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
        return "" if score.entry in leaders else "another row is ahead"
    sign = -1 if table.unit else 1
    low, high = sorted(sign * end for end in interval)
    if low >= sign * question.least:
        return ""
    return OPEN if high >= sign * question.least else "falls short"


def told_apart(rows: Sequence[Candidate]) -> tuple[list[Candidate], list[Candidate]]:
    """The answers that cannot be told apart from the cheapest, and the others, cheapest first.

    If all were measured at this length and against one reference, ranks decide; else whether
    intervals overlap. A row without a cost cannot be told apart from any.
    """
    fit = [row for row in rows if not row.why_not]
    fit.sort(key=lambda row: row.cost.seconds if row.cost else math.inf)
    costs = {row.entry: row.cost for row in fit if row.cost}
    records = {name: cost.record for name, cost in costs.items() if cost.record}
    references = {r.result.reference_key for r in records.values() if isinstance(r.result, Speed)}
    is_alike = len(records) == len(costs) and len(references) == 1
    ranks = rank_speed(records) if is_alike else None
    if ranks and len(ranks.names) == len(costs):
        first = {*ranks.leaders()}
    else:
        least = min((cost.high for cost in costs.values()), default=0.0)
        first = {name for name, cost in costs.items() if cost.low <= least}
    return (
        [row for row in fit if not row.cost or row.entry in first],
        [row for row in fit if row.cost and row.entry not in first],
    )
