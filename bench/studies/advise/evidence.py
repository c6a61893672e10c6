"""Evidence on each row from records and proofs: proven claims, score and cost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import bench
from bench.core.badges import BadgeStatus
from bench.core.cli.errors import ConfigError, did_you_mean
from bench.core.observed import CONTROLS
from bench.core.proofs import Proofs
from bench.core.record import Record, Speed
from bench.core.statistics import median, median_interval
from bench.core.store import read_packed, read_records, stores_below
from bench.publishing.leaderboard import Leaderboard, Setting, build_leaderboard
from bench.publishing.metrics.marks import may_be_ranked
from bench.publishing.metrics.scaling import seconds_at
from bench.publishing.naming import identity
from bench.publishing.scores import Score, TaskScores
from bench.publishing.searched import at_best_rate
from bench.studies.advise.settings import Advise

HOME = Path(bench.__file__).resolve().parent.parent
KEPT = ("docs/results", "results/accuracy", "results/decode")
"""Folders of records that come with the code."""

OPEN = "not settled whether it gets there"
"""Reason against a row whose interval contains the required score."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Seconds of a call at one length.

    Attributes:
        seconds, low, high: median and 95 % interval.
        record: the record at this length; None for a fit between measured lengths.
    """

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


# --- records --------------------------------------------------------------------------------------


def read_all(folders: Sequence[Path]) -> list[Record]:
    """Records of all stores in some folders, and of files ``records.jsonl.gz``.

    Args:
        folders: empty for those that come with the code, and ``results`` where the command runs.

    Raises:
        ConfigError: a folder that was named has no records, or nothing has any.
    """
    found: dict[tuple[str, str], Record] = {}
    usual = [*(HOME / name for name in KEPT), Path("results")]
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
    own = [task for task in tasks if task.label == name]
    if not own:
        known = sorted({task.label.partition(" ")[0] for task in tasks})
        raise ConfigError(f"No score on task={name} is stored. {did_you_mean(name, known)}")
    for key, value in wanted.items():
        known = sorted({str(json.loads(task.settings).get(key)) for task in own})
        own = [task for task in own if json.loads(task.settings).get(key) == value]
        if not own:
            raise ConfigError(
                f"No score on task={name} with {key}={value} is stored. Known: {', '.join(known)}."
            )
    return max(own, key=lambda task: (task.num_seeds, len(task.scores)))


def num_rates(score: Score, table: TaskScores, records: Sequence[Record]) -> int:
    """Number of learning rates that a row was trained at with the settings of its table."""

    def but_rate(settings: Mapping[str, object]) -> dict[str, object]:
        return {key: value for key, value in settings.items() if key != "learning_rate"}

    own, wanted = identity(score.records[0].cell), but_rate(json.loads(table.settings))
    return len(
        {
            r.cell.task.settings.get("learning_rate")
            for r in records
            if (identity(r.cell), r.cell.task.label) == (own, table.label)
            and but_rate(r.cell.task.shared_settings) == wanted
        }
    )


# --- costs ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Timed:
    """Timed records of one setting, chosen by `timed`.

    Attributes:
        setting: None if nothing was timed in such a setting.
        by_entry: records by row and by length, without controls.
    """

    setting: Setting | None
    by_entry: Mapping[str, Mapping[int, Record]]

    @property
    def lengths(self) -> list[int]:
        """Measured lengths, ascending."""
        return sorted({length for own in self.by_entry.values() for length in own})


def timed(
    board: Leaderboard,
    asked: Advise,
    mode: str,
    seq_len: int,
    causal: bool | None,
    wanted_rows: Sequence[str],
) -> Timed:
    """Choose the setting whose records give the costs of a mode.

    A setting whose lengths include `seq_len` is preferred, then the one with the most wanted rows,
    then the newest.

    Args:
        board: of all records.
        asked: has dtype and batch size.
        mode: mode of the calls.
        seq_len: tokens of a call.
        causal: None for either.
        wanted_rows: names of rows; empty for all.
    """
    wanted: dict[str, object] = {"scope": "core", "mode": mode}
    wanted |= {"dtype": asked.dtype, "batch_size": asked.batch_size}
    wanted |= {} if causal is None else {"causal": causal}
    found: dict[Setting, dict[str, dict[int, Record]]] = {}
    for ranking in board.rankings:
        setting = ranking.setting
        about = {key: getattr(setting.workload, key, None) for key in wanted}
        if setting.extras or about != wanted:
            continue
        rows = found.setdefault(setting, {})
        for standing in ranking.standings:
            is_row = standing.rank != "control" and may_be_ranked(standing.record)
            if is_row and isinstance(standing.record.result, Speed):
                rows.setdefault(standing.entry, {})[ranking.size] = standing.record

    def order(setting: Setting) -> tuple[bool, int, str]:
        records = [r for own in found[setting].values() for r in own.values()]
        lengths = [length for own in found[setting].values() for length in own]
        covers = bool(lengths) and min(lengths) <= seq_len <= max(lengths)
        rows = found[setting].keys() & set(wanted_rows or found[setting])
        return covers, len(rows), max((r.started_at for r in records), default="")

    best = max(found, key=order, default=None)
    return Timed(setting=best, by_entry=found[best] if best else {})


def cost_at(by_length: Mapping[int, Record], length: int) -> Cost | None:
    """Cost at a length: measured there, or by a fit within the measured range; else None.

    Nothing is extrapolated.
    """
    if record := by_length.get(length):
        assert isinstance(record.result, Speed)
        samples = record.result.latency_s
        seconds = median(samples) or 0.0
        low, high = median_interval(samples) or (0.0, float("inf"))
        return Cost(seconds=seconds, low=low, high=high, record=record)
    if (found := seconds_at(by_length, length)) is None:
        return None
    seconds, (low, high) = found
    return Cost(seconds=seconds, low=low, high=high)


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
    timed: Timed


# --- proofs ---------------------------------------------------------------------------------------


def needs(mode: str, *, causal: bool, dtype: str) -> list[str]:
    """Claims that must be proven for a mechanism to be an answer."""
    return [
        "reference",
        *(["causal"] if causal else []),
        *(["recurrent"] if mode in ("prefill", "decode") else []),
        *(["gradients"] if mode in ("backward", "forward_backward", "train_step") else []),
        *(["precision"] if dtype != "float32" else []),
    ]


def unproven(proofs: Proofs, claims: Sequence[str]) -> list[str]:
    """Claims without a passed test."""
    return [
        claim
        for claim in claims
        if claim not in proofs.badges or proofs.badges[claim].status is not BadgeStatus.PASSED
    ]
