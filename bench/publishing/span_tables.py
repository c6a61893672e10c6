"""Parts of a task's table that tell of spans: neighbours, state, and rungs that say nothing."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from statistics import fmean, stdev

from bench.core.comparison import num_seeds_for
from bench.core.observed import SOLVED
from bench.publishing.document import Table, text_table
from bench.publishing.scores import Score, TaskScores


def neighbours(task: TaskScores) -> Iterator[Table]:
    """Rows decided to hold less than each row, and the seeds that would decide it and the next."""
    if not task.rungs or task.ranks is None or len(task.ranks.names) < 2:
        return
    runs = {score.entry: score.runs for score in task.scores if score.entry in task.ranks.names}
    is_decided = {frozenset(pair): sign != 0 for pair, sign in task.decided.items()}
    rows = []
    for at, (better, other) in enumerate(pairwise(task.ranks.names), 1):
        known = runs[better].known, runs[other].known
        gaps = [known[0][seed] - known[1][seed] for seed in known[0].keys() & known[1].keys()]
        needed = num_seeds_for(fmean(gaps), stdev(gaps)) if len(gaps) > 1 else None
        stands = is_decided[frozenset((better, other))]
        behind = [row for row in task.ranks.names[at:] if is_decided[frozenset((better, row))]]
        seeds = "" if stands else f"about {needed:,}" if needed else "no number: no difference"
        rows.append((better, other, "yes" if stands else "no", seeds, ", ".join(behind)))
    yield text_table(
        title=f"neighbours by span; of all {len(is_decided):,} pairs of rows, "
        f"{sum(is_decided.values()):,} are decided, with Holm's correction",
        header=(
            *("row", "next row", "decided", "seeds that would decide it, uncorrected"),
            "rows that are decided to hold less",
        ),
        rows=tuple(rows),
        num_words=5,
    )


def span_per_kib(score: Score) -> str:
    """Span over the KiB of state that the model keeps; as a bound where the span is one."""
    if not score.spans or not score.state_bytes or score.centre is None:
        return ""
    per_kib = score.in_unit(score.centre) / (score.state_bytes / 1024)
    bound = "under " if score.centre <= 0 else "over " if score.centre >= 1 else ""
    return f"{bound}{per_kib:.2g}"


def span_notes(task: TaskScores) -> Iterator[str]:
    """The meaning of a span, rungs that tell nothing apart, and dips."""
    low, high = task.rungs[0], task.rungs[-1]
    yield (
        f"Span: how many {task.rung_of} a model holds, up to where it answers {SOLVED:.0%}, "
        f"interpolated between rungs on a logarithmic scale. Under {low} and over {high} are ends "
        "of the ladder and rank as such. Columns of a number: right answers at this rung (%)."
    )
    curves = [score.curve for score in task.scores if score.spans and not score.is_control]
    for words, rungs in (
        ("Nobody fails", [r for r in task.rungs if all(c[r] >= SOLVED for c in curves)]),
        ("Everybody fails", [r for r in task.rungs if all(c[r] < SOLVED for c in curves)]),
    ):
        if rungs and curves:
            named = ", ".join(f"{rung:,}" for rung in rungs)
            yield f"{words} at {named}: move the ladder by from_rung and to_rung."
    for score in task.scores:
        if dips := sorted({rung for span in score.spans for rung in span.dips}):
            yield (
                f"{score.entry} dips below {SOLVED:.0%} at {', '.join(map(str, dips))} and solves "
                "a higher rung; the span ends at the first dip."
            )
