"""Tables of scores on tasks, as text: means over seeds, beside the score of guessing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from statistics import fmean

from bench.core.format import bracketed, number, percent, quantity, with_unit
from bench.core.observed import SOLVED
from bench.core.record import Quality
from bench.core.seed_runs import SEEDS_WHERE_SOME_FAIL
from bench.core.statistics import median
from bench.publishing.document import Table, text_table
from bench.publishing.filters import filter_notes, filter_tables
from bench.publishing.fronts import front_tables, fronts
from bench.publishing.leaderboard import Leaderboard
from bench.publishing.overall import Overall, OverallRow, counts, overall
from bench.publishing.scores import Score, TaskScores, score_words
from bench.publishing.span_tables import neighbours, span_notes, span_per_kib
from bench.publishing.tables import (
    Section,
    leading_rows,
    place_words,
    status_words,
    varied_settings,
    with_marks,
)

SAME_SIZE = 0.01
"""Largest relative difference of a cost from the usual one that is not shown."""


def task_sections(board: Leaderboard) -> tuple[Section, ...]:
    """One section per task and its settings, then one of means for each place with several."""
    every_front = fronts(board)
    of_tasks = [
        Section(
            title=f"{task.label} · {place_words(task, board)} · {task.dtype}{_within(task)}",
            tables=(
                _task_table(task),
                *neighbours(task),
                *filter_tables(task),
                *front_tables(task, every_front),
            ),
            notes=tuple(_task_notes(task)),
            fine_print=(f"Settings: {task.settings}",),
        )
        for task in board.tasks
    ]
    of_all = (_overall_section(one, board) for one in overall(board))
    return (*of_tasks, *(section for section in of_all if section.tables))


def _within(task: TaskScores) -> str:
    """Part of a title: the number of steps within which the table ranks."""
    steps = task.named_settings.get("num_steps")
    return f" · within {steps:,} steps" if isinstance(steps, int) else ""


def _overall_section(one: Overall, board: Leaderboard) -> Section:
    """Means over tasks, and lengths solved; without tables if no row has either."""
    first = one.tasks[0]
    labels = [task.label for task in one.averaged]
    notes = [
        f"Mean accuracy over {', '.join(labels)}, equally weighted. A row that lacks one of them "
        "has no mean; its rank allows for any score there. A score does not count where the row "
        "solves nothing, where its seeds split or are missing, or where it may not be ranked: the "
        "marks in the table of that task say which.",
        *(
            f"Do not count on {task.label}: {', '.join(left)}."
            for task in one.averaged
            if (left := [s.entry for s in task.scores if s.accuracies and not counts(s)])
        ),
        *(
            f"Left out is {task.label}, on which no row counts."
            for task in one.tasks
            if task not in one.averaged
        ),
    ]
    if any(task.num_seeds < 2 for task in one.averaged):
        notes.append("Nothing is ranked, because a task has one seed only.")
    has_ranks = any(row.rank for row in one.rows)
    table = text_table(
        title=f"mean of {quantity(len(labels), 'task')}",
        header=(*(["rank"] if has_ranks else []), "entry", "mean accuracy (%)", "tasks"),
        rows=tuple(
            (
                *([row.rank_words] if has_ranks else []),
                row.entry + " (control)" * row.is_control,
                _overall_words(row),
                f"{row.num_covered} of {len(labels)}",
            )
            for row in one.rows
        ),
        num_words=1 + has_ranks,
        leading=leading_rows(one.rows),
    )
    means = (table,) if one.rows else ()
    over = f"Over {quantity(len(one.tasks), 'task')}"
    return Section(
        title=" · ".join([over, place_words(first, board), first.dtype]),
        tables=(*means, *_solved_tables(one.tasks)),
        notes=tuple(notes) if means else (),
    )


def _solved_tables(tasks: Sequence[TaskScores]) -> Iterator[Table]:
    """The length up to which a row solves each task, if several tasks test on longer examples."""
    tested = [task for task in tasks if _lengths(task)]
    if len(tested) < 2:
        return
    columns = [
        {s.entry + " (control)" * s.is_control: _solved_words(s, task) for s in task.scores}
        for task in tested  # some may share a label
    ]
    entries = dict.fromkeys(entry for column in columns for entry in column)
    yield text_table(
        title="solved to",
        header=("entry", *_titles(tested)),
        rows=tuple((entry, *(column.get(entry, "") for column in columns)) for entry in entries),
        num_words=1,
    )


def _titles(tasks: Sequence[TaskScores]) -> Iterator[str]:
    """The label of each task, with the settings in which tasks of one label differ."""
    for task in tasks:
        varied = varied_settings(task, tasks)
        yield " ".join([task.label, *(f"{name}={value}" for name, value in varied.items())])


def _overall_words(row: OverallRow) -> str:
    if row.mean is None and row.interval:
        return f"[{percent(row.interval[0])}, {percent(row.interval[1])}]"
    return "" if row.mean is None else bracketed(percent, row.mean, row.interval)


def _task_table(task: TaskScores) -> Table:
    """The table of one task; ranks and scores of single seeds are shown with several seeds only."""
    has_ranks = task.num_seeds > 1
    every = [(score, score_row(score, task)) for score in task.scores]
    rare = (
        *("training (%)", "solved to", "state", "pairs kept (%)", "steps to 90 %"),
        *("learning rate", "size set", "span per KiB of state"),
    )
    left_out = {title for title in rare if not any(row[title] for _, row in every)}
    if not has_ranks:
        left_out |= {"rank", "each seed"}
    if task.named_settings.get("match") != "flops":
        left_out.add("FLOPs of an example")
    header = tuple(title for title in every[0][1] if title not in left_out)
    trained = [(score, row) for score, row in every if not score.is_skipped]
    trained.sort(key=lambda pair: -(_solved_to(pair[0], task) or 0))
    table = text_table(
        title="unseen examples",
        header=header,
        rows=tuple(tuple(row[title] for title in header) for _, row in trained),
        num_words=1 + has_ranks,
        leading=leading_rows([score for score, _ in trained]),
    )
    return with_marks(table, [score.marks for score, _ in trained])


def score_row(score: Score, task: TaskScores) -> dict[str, str]:
    """Cells of a row by the title of their column, including columns that are not shown."""
    num_seen = task.num_seeds - score.num_missing
    write = number if task.unit else percent
    chance = "" if score.chance is None else write(score.chance)
    curve = score.curve
    at = {length: _longer_words(own, score) for length, own in score.longer}
    return {
        "rank": score.rank_words,
        "entry": score.entry + " (control)" * score.is_control,
        task.title: score_words(score)
        or ", ".join(status_words(status) for status in score.statuses),
        "each seed": (", " if task.rungs else " ").join(map(score.write, score.accuracies)),
        **{f"{rung:,} (%)": percent(curve[rung]) if curve else "" for rung in task.rungs},
        "span per KiB of state": span_per_kib(score),
        "training (%)": "" if score.train_accuracy is None else write(score.train_accuracy),
        "seeds": f"{num_seen} of {task.num_seeds}" if score.num_missing else str(task.num_seeds),
        **{f"at {n:,} tokens": at.get(n, "") for n in _lengths(task)},
        "solved to": _solved_words(score, task),
        "state": _state_words(score.state_bytes, task),
        "pairs kept (%)": _kept_words(score),
        "steps to 90 %": _steps_words(score),
        "learning rate": _rate_words(score),
        "chance" if task.unit else "chance (%)": chance,
        "examples": "" if score.num_examples is None else number(score.num_examples),
        "parameters": _beside_usual(
            score.num_parameters, "{:,}".format, [one.num_parameters for one in task.scores]
        ),
        "FLOPs of an example": _beside_usual(
            score.flops, partial(with_unit, "flops"), [one.flops for one in task.scores]
        ),
        "size set": score.matched,
    }


def _lengths(task: TaskScores) -> list[int]:
    return sorted({length for score in task.scores for length, _ in score.longer})


def _single_seeds(task: TaskScores) -> Iterator[str]:
    """Rows of which some seeds reach `SOLVED` at the trained length, with the number of these."""
    for score in task.scores:
        if num_solved := sum(accuracy >= SOLVED for accuracy in score.accuracies):
            yield f"; {score.entry} does with {num_solved} of {quantity(task.num_seeds, 'seed')}"


def _longer_words(scores: Sequence[float], score: Score) -> str:
    """Centre of the seeds at one length, with its interval; how many they are if not all."""
    write, centre = percent if score.is_share else number, score.centre_of(scores) or 0.0
    words = bracketed(write, centre, score.interval_over(scores))
    num_seeds = len(score.accuracies)
    few = f" ({len(scores)} of {quantity(num_seeds, 'seed')})"
    return words + few * (len(scores) < num_seeds)


def _solved_to(score: Score, task: TaskScores) -> int | None:
    """The length in tokens up to which all seeds have a score and their mean is `SOLVED` or more.

    0 if there is none; None if longer examples were not tested.
    """
    own = task.named_settings.get("seq_len")
    if task.unit or not score.longer or score.accuracy is None or not isinstance(own, int):
        return None
    at = dict(score.longer)
    reached = 0
    for length in (own, *_lengths(task)):
        scores = score.accuracies if length == own else at.get(length, ())
        if len(scores) < len(score.accuracies) or fmean(scores) < SOLVED:
            break
        reached = length
    return reached


def _solved_words(score: Score, task: TaskScores) -> str:
    reached = _solved_to(score, task)
    if reached is None:
        return ""
    return f"{reached:,} tokens" if reached else "no length"


def _steps_words(score: Score) -> str:
    """Median over the seeds that reached 90 %, and how many did unless all."""
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


def _state_words(state_bytes: int | None, task: TaskScores) -> str:
    """Size of a state; if states were matched, with its difference from the matched size."""
    if state_bytes is None:
        return ""
    words, settings = f"{state_bytes:,} bytes", task.named_settings
    if settings.get("match") != "state":
        return words
    layers, width, heads = (settings.get(name) for name in ("num_layers", "embed_dim", "num_heads"))
    if not (layers and width and heads):
        return words
    return words + _beside(state_bytes, 4 * (layers * width**2 // heads))


def _kept_words(score: Score) -> str:
    """Share of the pairs that a sparse row attends to."""
    results = [record.result for record in score.records]
    kept = [r.kept_share for r in results if isinstance(r, Quality) and r.kept_share is not None]
    return percent(fmean(kept)) if kept else ""


def _beside_usual(
    cost: int | None, write: Callable[[int], str], costs: Iterable[int | None]
) -> str:
    """A cost with its difference from the most frequent one, the least of equally frequent ones."""
    if cost is None:
        return ""
    counts = Counter(one for one in costs if one is not None)
    usual = max(counts, key=lambda one: (counts[one], -one))
    return write(cost) + _beside(cost, usual)


def _beside(cost: int, usual: int) -> str:
    """Relative difference from the usual cost, if it is more than `SAME_SIZE`."""
    more = cost / usual - 1 if usual else 0.0
    return f" ({more:+.1%})" if abs(more) > SAME_SIZE else ""


def _task_notes(task: TaskScores) -> Iterator[str]:
    if task.num_seeds > 1:
        yield (
            f"Mean over {quantity(task.num_seeds, 'seed')}, in brackets the 95 % interval of a "
            "typical seed, over seeds and test examples. Ranks compare rows seed by seed and are "
            "uncorrected: of ten rows that are all alike, some pair seems to differ in 70 to 80 % "
            "of tables."
        )
    else:
        yield "One seed only: seeds can differ by tens of points, so nothing is ranked."
    if task.rungs:
        yield from span_notes(task)
    if skipped := [score.entry for score in task.scores if score.is_skipped]:
        yield f"Not trained (reasons below the tables): {', '.join(skipped)}."
    if any(score.num_missing and not score.is_skipped for score in task.scores):
        yield "Entries with fewer seeds are not comparable with the others."
    if untuned := [s.entry for s in task.scores if {"untuned"} & set(s.marks)]:
        yield (
            f"Untuned, so not ranked: {', '.join(untuned)}; no learning rate was searched for "
            "these at just these settings. `attnbench rates` searches one."
        )
    if nothing := [score.entry for score in task.scores if score.solves_nothing]:
        yield (
            f"Solve nothing, so not ranked: {', '.join(nothing)}; every run is stuck near chance "
            "or a partial solution, or below."
        )
    if split := [score.entry for score in task.scores if score.is_split]:
        yield (
            f"The median is shown for {', '.join(split)}, since some runs failed: they are stuck, "
            "or nearer to chance or a partial solution than to 100 %."
        )
    if few := [score.entry for score in task.scores if score.needs_seeds]:
        yield (
            f"Not settled (needs {SEEDS_WHERE_SOME_FAIL} seeds), so not ranked: {', '.join(few)}."
        )
    if unsettled := [score for score in task.scores if score.num_unsettled]:
        is_ranked = any(
            not score.is_control
            and (score.may_be_ranked or score.solves_nothing or score.needs_seeds)
            for score in unsettled
        )
        yield (
            f"Not settled{'' if is_ranked else ', so not ranked'}: "
            f"{', '.join(score.entry for score in unsettled)} still improved at the last step. "
            "Raise num_steps to see the final accuracy."
        )
    if any(score.is_at_edge for score in task.scores):
        yield (
            "At the edge: the best learning rate was the smallest or largest of the search, so one "
            "outside may be better."
        )
    for guess in task.guesses:
        yield f"Chance is the score of this guess: {guess}."
    write = number if task.unit else percent
    for words, level in task.plateaus:
        yield f"A model that learned only a part, {words}, scores {write(level)}."
    if _lengths(task) and not task.unit:
        yield (
            "Columns named by a length are tests on examples longer than those of training; "
            f"solved to: the longest one up to which {SOLVED:.0%} of the answers are right at each."
        )
        if any(len(own) < len(s.accuracies) for s in task.scores for _, own in s.longer):
            yield (
                "In brackets behind a score at a length: how many seeds have one, if not all. "
                "Such a length does not count as solved."
            )
        reached = [_solved_to(score, task) for score in task.scores if not score.is_control]
        if not any(reached):
            yield (
                f"Not settled: no row's mean reaches {SOLVED:.0%} at any length within these "
                f"steps{''.join(_single_seeds(task))}."
            )
    if any(score.matched for score in task.scores):
        yield (
            "One size of each model was chosen so that all cost the same; percentages show the "
            "difference that remains."
        )
    yield from filter_notes(task)
    gated = [f"{score.entry} ({', '.join(score.gates)})" for score in task.scores if score.gates]
    if gated:
        yield f"Gates projected from the tokens by the backbone: {', '.join(gated)}."
    for score in task.scores:
        if score.num_collapsed:
            yield (
                f"{score.entry} collapsed in {score.num_collapsed} of {len(score.accuracies)} "
                "runs: nearly all key features are at the floor, so it cannot tell keys apart."
            )
