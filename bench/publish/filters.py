"""What trained models do with fewer tokens, as a table of words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from bench.publish.format import number, percent
from bench.publish.scores import Score, TaskScores
from bench.publish.tables import Table
from bench.record import Filtered, Quality
from bench.statistics import mean_interval, median, median_interval

_ORACLES = ("object_rate",)
WITHOUT = "whole model"


def filter_tables(task: TaskScores) -> Iterator[Table]:
    """One for the task, if any of its models was filtered."""
    rows = [row for score in task.scores for row in _rows(score)]
    if rows:
        yield Table(
            title="token filters, without fine-tuning",
            header=("entry", "filter", "keep", "tokens", "accuracy (%)", "speed-up", "compute (%)"),
            rows=tuple(rows),
            num_text=2,
        )


def filter_notes(task: TaskScores) -> Iterator[str]:
    """How the table is to be read, and what could not be filtered."""
    filtered = [(score, row) for score in task.scores for _, row in _filtered(score)]
    if not filtered:
        return
    yield (
        "Token filters: the trained model sees the patches that are kept, at their own places. "
        "Speed-up is the whole model's forward over the filtered one's, choice of tokens included, "
        "the median over rounds in the training's process, with its 95 % interval; compute is of "
        "all blocks, by formula. random and patch_contrast are controls."
    )
    if any(row["filter"] in _ORACLES for _, row in filtered):
        yield "object_rate is an oracle: it is told which patches the object covers."
    first: dict[tuple[str, str], str] = {}  # the least share's reason; others differ in a number
    for score, row in filtered:
        if reason := row.get("reason"):
            first.setdefault((score.entry, row["filter"]), reason)
    for entry, reason in dict.fromkeys((entry, reason) for (entry, _), reason in first.items()):
        names = [name for (own, name), why in first.items() if (own, why) == (entry, reason)]
        yield f"{entry} has no {', '.join(names)}: {reason}"


def _filtered(score: Score) -> Iterator[tuple[Quality, Filtered]]:
    for record in score.records:
        if isinstance(record.result, Quality):
            for row in record.result.filtered:
                yield record.result, row


def _rows(score: Score) -> Iterator[tuple[str, ...]]:
    def by(one: tuple[Quality, Filtered]) -> tuple[str, float]:
        return one[1]["filter"], one[1]["keep"]

    seen = [one for one in _filtered(score) if not one[1].get("reason")]
    if not seen:
        return
    whole = [record.result for record in score.records if isinstance(record.result, Quality)]
    yield score.entry, WITHOUT, "1", "", _accuracy([r.accuracy for r in whole]), "1", "100"
    for (name, keep), group in groupby(sorted(seen, key=by), key=by):
        own = list(group)
        shares = [row["flops"] / result.flops for result, row in own if result.flops]
        yield (
            score.entry,
            name + " (oracle)" * (name in _ORACLES),
            f"{keep:g}",
            str(own[0][1]["num_tokens"]),
            _accuracy([row["accuracy"] for _, row in own]),
            _speed_up([row for _, row in own]),
            percent(median(shares) or 0.0) if shares else "",
        )


def _accuracy(scores: Sequence[float]) -> str:
    mean, interval = sum(scores) / len(scores), mean_interval(scores)
    if interval is None:
        return percent(mean)
    low, high = interval
    return f"{percent(mean)} [{percent(max(low, 0.0))}, {percent(min(high, 1.0))}]"


def _speed_up(rows: Sequence[Filtered]) -> str:
    ratios = [
        whole / fewer
        for row in rows
        for whole, fewer in zip(row["unfiltered_latency_s"], row["latency_s"], strict=True)
    ]
    interval = median_interval(ratios)
    words = number(median(ratios) or 0.0)
    return words if interval is None else f"{words} [{number(interval[0])}, {number(interval[1])}]"
