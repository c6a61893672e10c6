"""Results of trained models on a share of their tokens, compared with the whole model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from bench.core.comparison import Runs, mean_of, within_share
from bench.core.format import bracketed, column_for, number, percent, with_unit
from bench.core.record import Filtered, Quality, Record
from bench.core.statistics import Interval, mean_interval, median, median_interval
from bench.publishing.document import Table, text_table
from bench.publishing.scores import TaskScores

_ORACLES = ("object_rate",)
WITHOUT = "whole model"


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A model that saw a share of its tokens, over all seeds.

    Attributes:
        filter: which tokens were kept, an oracle named as such; `WITHOUT` for the whole model.
        keep: the configured share of tokens.
        num_tokens: tokens kept; None for the whole model.
        accuracies: one per seed.
        num_examples: test examples behind each accuracy.
        minus_whole: each accuracy minus the whole model's; empty for the whole model.
        latency_s: forward pass of a batch, the choice of tokens included: median over rounds.
        ratios: the whole model's latency over this one, one per round; empty for the whole model.
        flops: FLOPs of all blocks for one example.
        flops_ratio: `flops` over the whole model's; None if the mechanism states none.
    """

    entry: str
    filter: str
    keep: float
    num_tokens: int | None
    accuracies: tuple[float, ...]
    num_examples: int
    minus_whole: tuple[float, ...]
    latency_s: float
    ratios: tuple[float, ...]
    flops: int
    flops_ratio: float | None

    @property
    def accuracy(self) -> float:
        """The mean over seeds."""
        return sum(self.accuracies) / len(self.accuracies)

    @property
    def latency_ratio(self) -> float:
        """Its latency over the whole model's, median over rounds; 1 for the whole model."""
        return 1 / (median(self.ratios) or 1.0)

    @property
    def accuracy_interval(self) -> Interval | None:
        """95 % interval by `bench.core.comparison`, within 0 and 1; None with one seed."""
        runs = Runs(scores=dict(enumerate(self.accuracies)), num_examples=self.num_examples)
        found = mean_of(runs)
        return within_share(found) if found else None


def kept_shares(entry: str, records: Sequence[Record]) -> Iterator[Kept]:
    """A row's whole model, then each filter at each share; nothing if no filter was tried."""

    def by(one: tuple[Quality, Filtered]) -> tuple[str, float]:
        return one[1]["filter"], one[1]["keep"]

    seen = [one for one in _filtered(records) if not one[1].get("reason")]
    if not seen:
        return
    whole = [record.result for record in records if isinstance(record.result, Quality)]
    yield Kept(
        entry=entry,
        filter=WITHOUT,
        keep=1.0,
        num_tokens=None,
        accuracies=tuple(result.accuracy for result in whole),
        num_examples=whole[0].num_examples,
        minus_whole=(),
        latency_s=median([s for _, row in seen for s in row["unfiltered_latency_s"]]) or 0.0,
        ratios=(),
        flops=whole[0].flops or 0,
        flops_ratio=1.0,
    )
    for (name, keep), group in groupby(sorted(seen, key=by), key=by):
        own = list(group)
        yield Kept(
            entry=entry,
            filter=name + " (oracle)" * (name in _ORACLES),
            keep=keep,
            num_tokens=own[0][1]["num_tokens"],
            accuracies=tuple(row["accuracy"] for _, row in own),
            num_examples=own[0][0].num_examples,
            minus_whole=tuple(row["accuracy"] - result.accuracy for result, row in own),
            latency_s=median([s for _, row in own for s in row["latency_s"]]) or 0.0,
            ratios=tuple(ratio for _, row in own for ratio in _ratios(row)),
            flops=own[0][1]["flops"],
            flops_ratio=median([r["flops"] / result.flops for result, r in own if result.flops]),
        )


def filter_columns(record: Record) -> dict[str, float | None]:
    """A record's numbers for each filter and share, by the names of columns.

    For example ``random_0.25_accuracy`` and ``random_0.25_speedup_over_whole``.
    """
    if not isinstance(record.result, Quality):
        return {}
    found: dict[str, float | None] = {}
    for row in record.result.filtered:
        if not row.get("reason"):
            whole = record.result.flops
            numbers = {
                "num_tokens": row["num_tokens"],
                "accuracy": row["accuracy"],
                "latency_s": median(row["latency_s"]),
                "speedup_over_whole": median(_ratios(row)),
                "flops": row["flops"],
                "flops_over_whole": row["flops"] / whole if whole else None,
            }
            start = f"{row['filter']}_{row['keep']:g}"
            found |= {f"{start}_{name}": value for name, value in numbers.items()}
    return found


def filter_tables(task: TaskScores) -> Iterator[Table]:
    """One table for the task, if any of its models was filtered."""
    kept = [row for one in task.scores for row in kept_shares(one.entry, one.records)]
    if kept:
        latency = column_for("latency_s", [row.latency_s for row in kept])
        yield text_table(
            title="token filters, without fine-tuning",
            header=(
                *("entry", "filter", "keep", "tokens", "accuracy (%)", "minus whole (points)"),
                *("speed-up", latency.title, "FLOPs (%)"),
            ),
            rows=tuple(
                (
                    row.entry,
                    row.filter,
                    f"{row.keep:g}",
                    "" if row.num_tokens is None else str(row.num_tokens),
                    bracketed(percent, row.accuracy, row.accuracy_interval),
                    _minus_whole(row),
                    _speed_up(row),
                    latency.write(row.latency_s),
                    _flops(row),
                )
                for row in kept
            ),
            num_words=2,
        )


def filter_notes(task: TaskScores) -> Iterator[str]:
    """Notes on how to read the table, and on what could not be filtered."""
    filtered = [(one, row) for one in task.scores for _, row in _filtered(one.records)]
    if not filtered:
        return
    yield (
        "Token filters: the trained model gets only the patches that are kept, with their "
        "positions. Speed-up is the whole model's forward time over the filtered model's, "
        "including the choice of tokens: the median over rounds in the training process, with its "
        "95 % interval. FLOPs are those of all blocks, by formula. random and patch_contrast are "
        "controls."
    )
    if any(row["filter"] in _ORACLES for _, row in filtered):
        yield "object_rate is an oracle: it knows which patches the object covers."
    first: dict[tuple[str, str], str] = {}  # the first share's reason; others differ in a number
    for score, row in filtered:
        if reason := row.get("reason"):
            first.setdefault((score.entry, row["filter"]), reason)
    for entry, reason in dict.fromkeys((entry, reason) for (entry, _), reason in first.items()):
        names = [name for (own, name), why in first.items() if (own, why) == (entry, reason)]
        yield f"{entry} has no {', '.join(names)}: {reason}"


def _filtered(records: Sequence[Record]) -> Iterator[tuple[Quality, Filtered]]:
    for record in records:
        if isinstance(record.result, Quality):
            for row in record.result.filtered:
                yield record.result, row


def _ratios(row: Filtered) -> list[float]:
    both = zip(row["unfiltered_latency_s"], row["latency_s"], strict=True)
    return [whole / fewer for whole, fewer in both]


def _minus_whole(row: Kept) -> str:
    """Mean of the differences, paired by seed: seeds that differ may agree on a filter's cost."""
    if not row.minus_whole:
        return ""
    mean = sum(row.minus_whole) / len(row.minus_whole)
    return bracketed(lambda x: f"{100 * x:+.1f}", mean, mean_interval(row.minus_whole))


def _speed_up(row: Kept) -> str:
    if row.filter == WITHOUT:
        return "1"
    return bracketed(number, median(row.ratios) or 1.0, median_interval(row.ratios))


def _flops(row: Kept) -> str:
    if row.filter == WITHOUT:
        return f"100 ({with_unit('flops', row.flops)})" if row.flops else "100"
    return "" if row.flops_ratio is None else percent(row.flops_ratio)
