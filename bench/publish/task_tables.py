"""What rows score on a task, as tables of words: over seeds, beside what guessing gives."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from bench.cell import KernelWorkload
from bench.publish.filters import filter_notes, filter_tables
from bench.publish.format import bracketed, number, percent, quantity, with_unit
from bench.publish.fronts import COSTS, Front, fronts
from bench.publish.leaderboard import Leaderboard
from bench.publish.overall import Overall, OverallRow, overall
from bench.publish.scores import Score, TaskScores
from bench.publish.tables import Section, Table, place_words, status_words, with_marks
from bench.statistics import median, share_interval

SAME_SIZE = 0.01
"""Models whose parameters differ by no more are of one size; a larger difference is stated."""


def task_sections(board: Leaderboard) -> tuple[Section, ...]:
    """One section a task and its settings, then one for each place where several were run."""
    every_front = fronts(board)
    of_tasks = [
        Section(
            title=f"{task.label} · {place_words(task, board)} · {task.dtype}",
            tables=(_task_table(task), *filter_tables(task), *_front_tables(task, every_front)),
            notes=tuple(_task_notes(task)),
            fine_print=(f"Settings: {task.settings}",),
        )
        for task in board.tasks
    ]
    return (*of_tasks, *(_overall_section(one, board) for one in overall(board)))


def _front_tables(task: TaskScores, every_front: Sequence[Front]) -> Iterator[Table]:
    rows = [
        (COSTS[front.metric], _where_words(front), ", ".join(front.names))
        for front in every_front
        if front.task is task
    ]
    if rows:
        yield Table(
            title="Pareto fronts: no other row is as cheap and as good",
            header=("cost", "measured at", "rows, cheapest first"),
            rows=tuple(rows),
            num_text=3,
        )


def _where_words(front: Front) -> str:
    if front.ranking is None:
        return "this task"
    shape = front.ranking.setting.workload
    words = [f"{front.ranking.size:,} tokens", shape.dtype, shape.mode.replace("_", " ")]
    words += ["causal"] if isinstance(shape, KernelWorkload) and shape.causal else []
    return ", ".join(words)


def _overall_section(one: Overall, board: Leaderboard) -> Section:
    first = one.tasks[0]
    labels = [task.label for task in one.tasks]
    notes = [
        f"Mean accuracy over {', '.join(labels)}, each with the same weight. A row without one of "
        "them has no mean, and a rank as if it could have any score there."
    ]
    if any(task.num_seeds < 2 for task in one.tasks):
        notes.append("Where a task has one seed, nothing is ranked.")
    has_ranks = any(row.rank and not row.is_control for row in one.rows)
    table = Table(
        title=f"mean of {quantity(len(labels), 'task')}",
        header=(*(["rank"] if has_ranks else []), "entry", "mean accuracy (%)", "tasks"),
        rows=tuple(
            (
                *([row.rank] if has_ranks else []),
                row.entry + " (control)" * row.is_control,
                _overall_words(row),
                f"{row.num_covered} of {len(labels)}",
            )
            for row in one.rows
        ),
        num_text=1 + has_ranks,
    )
    return Section(
        title=f"Over {quantity(len(labels), 'task')} · {place_words(first, board)} · {first.dtype}",
        tables=(table,),
        notes=tuple(notes),
    )


def _overall_words(row: OverallRow) -> str:
    if row.mean is None and row.interval:
        return f"[{percent(row.interval[0])}, {percent(row.interval[1])}]"
    return "" if row.mean is None else bracketed(percent, row.mean, row.interval)


def _task_table(task: TaskScores) -> Table:
    """Ranks and the scores of single seeds are there where there are seeds to compare."""
    has_ranks = task.num_seeds > 1
    is_matched = any(score.matched for score in task.scores)
    lengths = _lengths(task)
    header = {
        "rank": has_ranks,
        "entry": True,
        task.unit or "accuracy (%)": True,
        "each seed": has_ranks,
        "seeds": True,
        **{f"at {length:,} tokens": True for length in lengths},
        "state": any(score.state_bytes is not None for score in task.scores),
        "steps to 90 %": any(score.steps_to_90 for score in task.scores),
        "learning rate": any(score.rate is not None for score in task.scores),
        "chance" if task.unit else "chance (%)": True,
        "examples": True,
        "parameters": True,
        "FLOPs of an example": json.loads(task.settings).get("match") == "flops",
        "size set": is_matched,
    }
    shown = [place for place, is_shown in enumerate(header.values()) if is_shown]
    trained = [score for score in task.scores if not score.is_skipped]
    rows = [_score_cells(score, task) for score in trained]
    table = Table(
        title="unseen examples",
        header=tuple(title for title, is_shown in header.items() if is_shown),
        rows=tuple(tuple(row[place] for place in shown) for row in rows),
        num_text=1 + has_ranks,
    )
    return with_marks(table, [score.marks for score in trained])


def _score_cells(score: Score, task: TaskScores) -> tuple[str, ...]:
    """A cell for each title of the header, also those that are not shown."""
    num_seen = task.num_seeds - score.num_missing
    write = number if task.unit else percent
    at = dict(score.longer)
    return (
        score.rank,
        score.entry + " (control)" * score.is_control,
        _mean_words(score, task),
        " ".join(map(write, score.accuracies)),
        f"{num_seen} of {task.num_seeds}" if score.num_missing else str(task.num_seeds),
        *(write(at[length]) if length in at else "" for length in _lengths(task)),
        "" if score.state_bytes is None else _state_words(score.state_bytes, task),
        _steps_words(score),
        _rate_words(score),
        "" if score.chance is None else write(score.chance),
        "" if score.num_examples is None else number(score.num_examples),
        "" if score.num_parameters is None else _parameter_words(score.num_parameters, task),
        "" if score.flops is None else _flops_words(score.flops, task),
        score.matched,
    )


def _lengths(task: TaskScores) -> list[int]:
    return sorted({length for score in task.scores for length, _ in score.longer})


def _mean_words(score: Score, task: TaskScores) -> str:
    """As ``97.3 [96.1, 98.5]``; of a share, no more than all and no less than nothing."""
    if score.accuracy is None:
        return ", ".join(status_words(status) for status in score.statuses)
    if task.unit:
        return bracketed(number, score.accuracy, score.interval)
    return bracketed(percent, score.accuracy, share_interval(score.accuracies))


def _steps_words(score: Score) -> str:
    """The median of the seeds that got there, and how many of all that is."""
    if not score.steps_to_90:
        return ""
    middle = f"{median(score.steps_to_90):.0f}"
    num_there, num_runs = len(score.steps_to_90), len(score.accuracies)
    return middle if num_there == num_runs else f"{middle} ({num_there} of {num_runs})"


def _rate_words(score: Score) -> str:
    if score.rate is None:
        return ""
    kind = "searched" if score.is_searched else "shared"
    return f"{score.rate:g} {kind}{', at the edge' * score.is_at_edge}"


def _parameter_words(num_parameters: int, task: TaskScores) -> str:
    usual = _usual(score.num_parameters for score in task.scores)
    return f"{num_parameters:,}" + _beside(num_parameters, usual)


def _flops_words(flops: int, task: TaskScores) -> str:
    return with_unit("flops", flops) + _beside(flops, _usual(score.flops for score in task.scores))


def _state_words(state_bytes: int, task: TaskScores) -> str:
    """Where states were to be equal, beside what all were to keep."""
    words = f"{state_bytes:,} bytes"
    settings = json.loads(task.settings)
    if settings.get("match") != "state":
        return words
    numbers = settings["num_layers"] * settings["embed_dim"] ** 2 // settings["num_heads"]
    return words + _beside(state_bytes, 4 * numbers)


def _usual(costs: Iterable[int | None]) -> int:
    """The most frequent of them; of those alike, the least."""
    counts = Counter(cost for cost in costs if cost is not None)
    return max(counts, key=lambda cost: (counts[cost], -cost))


def _beside(cost: int, usual: int) -> str:
    """How far a model's cost is from that of others, if by more than 1 %."""
    more = cost / usual - 1
    return f" ({more:+.1%})" if abs(more) > SAME_SIZE else ""


def _task_notes(task: TaskScores) -> Iterator[str]:
    if task.num_seeds > 1:
        yield (
            f"Mean over {quantity(task.num_seeds, 'seed')} with its 95 % interval (Student's t); "
            "ranks are the places that a comparison seed by seed leaves open."
        )
    else:
        yield "One seed is one draw: seeds can differ by tens of points, and nothing is ranked."
    if skipped := [score.entry for score in task.scores if score.is_skipped]:
        yield f"Not trained, for the reasons below the tables: {', '.join(skipped)}."
    if any(score.num_missing and not score.is_skipped for score in task.scores):
        yield "An entry with fewer seeds than that is not comparable with one that has all."
    if unsettled := [score.entry for score in task.scores if score.num_unsettled]:
        yield (
            f"Not settled, and so not ranked: {', '.join(unsettled)} improved until the last "
            "steps. Raise num_steps to see where that leads."
        )
    if any(score.is_at_edge for score in task.scores):
        yield (
            "At the edge: the best of the rates that were searched is the least or the greatest of "
            "them, so that one beyond may be better."
        )
    for guess in task.guesses:
        yield f"Chance is what this guess scores: {guess}."
    write = number if task.unit else percent
    for words, level in task.plateaus:
        yield f"What a model scores that learned a part, {words}: {write(level)}."
    if _lengths(task):
        yield "Longer examples than were trained on are tested at the lengths that columns name."
    if any(score.matched for score in task.scores):
        yield (
            "One size of each model was set so that all cost the same; percentages say how far a "
            "model is from the others."
        )
    yield from filter_notes(task)
    gated = [f"{score.entry} ({', '.join(score.gates)})" for score in task.scores if score.gates]
    if gated:
        yield f"Gates that the backbone projects from the tokens: {', '.join(gated)}."
    for score in task.scores:
        if score.num_collapsed:
            yield (
                f"{score.entry} collapsed in {score.num_collapsed} of {len(score.accuracies)} "
                "runs: nearly all its key features lie at the floor, so that keys look alike."
            )
