"""Training runs of one row, in the form that is compared over seeds. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np

from bench.core.answers import right_answers
from bench.core.comparison import Runs
from bench.core.observed import Quality
from bench.core.spans import Span

FEWEST_SEEDS = 3
"""Smallest number of training seeds that a verdict rests on: two say nothing about the spread."""

SEEDS_WHERE_SOME_FAIL = 5
"""The same for a row that splits: where one run in three fails, three seeds all do in 1 of 27 rows.

Such a row would look like another mechanism, and no correction for many pairs prevents that.
"""


def splits(results: Sequence[Quality]) -> bool:
    """Whether some runs of a row failed and others solved the task, so that no run is at the mean.

    Also if some are stuck and others are not.
    """
    failed = [result for result in results if result.has_failed]
    is_mixed = bool(failed) and any(r.is_solved for r in results if r not in failed)
    return is_mixed or len({bool(result.stuck_at) for result in results}) > 1


def needs_more_seeds(results: Sequence[Quality]) -> bool:
    """Whether a row splits and has too few seeds for a verdict on it."""
    return len(results) < SEEDS_WHERE_SOME_FAIL and splits(results)


def runs_from(
    results: Mapping[int, Quality], scores: Mapping[int, float | None] | None = None
) -> Runs:
    """Scores by seed, and what results hold of the test examples; older ones only their number.

    `scores` include those of seeds without a result; None takes those of the results.
    """
    every = [*results.values()]
    errors = [result.score_error for result in every if result.score_error is not None]
    test_sets = {result.test_set for result in every}
    sizes = {result.answers_per_cluster for result in every}
    is_even = len(sizes) == 1 and None not in sizes
    return Runs(
        scores=scores or {seed: result.accuracy for seed, result in results.items()},
        # Seeds share the examples: the error of their mean is at most the mean of their errors.
        error=sum(errors) / len(errors) if errors and len(errors) == len(every) else None,
        num_examples=min((result.num_examples for result in every), default=None),
        right=_right(results) if is_even else {},
        per_cluster=(sizes.pop() or 1) if is_even else 1,
        test_set=test_sets.pop() if len(test_sets) == 1 else "",
    )


def _right(results: Mapping[int, Quality]) -> dict[int, np.ndarray]:
    """Right answers by seed; those that cannot be unpacked count as not kept.

    `bench.validate` reports such a record; a report goes on without its answers.
    """
    found: dict[int, np.ndarray] = {}
    for seed, result in results.items():
        if result.answers:
            with suppress(ValueError):
                found[seed] = right_answers(result.answers, result.num_examples)
    return found


def runs_of_spans(
    results: Mapping[int, Quality], spans: Mapping[int, Span], heights: Mapping[int, float | None]
) -> Runs:
    """Heights by seed, paired by test examples; `heights` include seeds without a result."""
    test_sets = {result.test_set for result in results.values()}
    return Runs(
        scores=heights,
        num_examples=min((len(span.values) for span in spans.values()), default=None),
        right={seed: span.values for seed, span in spans.items()},
        test_set=test_sets.pop() if len(test_sets) == 1 else "",
    )
