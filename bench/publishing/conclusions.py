"""Conclusions of a leaderboard, in sentences: the first lines of every report.

A sentence is written only if the data support it: an order where rows can be told apart, a
crossover where three lengths or more were measured. Controls, and rows with a mark that forbids a
rank, appear in no such sentence; the latter are listed at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from bench.core.cell import ModelWorkload
from bench.core.format import join_names, number, percent, quantity
from bench.publishing.growth import crossovers
from bench.publishing.implementations import in_this_implementation, is_ours
from bench.publishing.leaderboard import (
    RANKED_BY,
    Leaderboard,
    Ranking,
    Setting,
    Standing,
    differing,
)
from bench.publishing.metrics.crossover import Crossover, length_words
from bench.publishing.metrics.marks import may_be_ranked
from bench.publishing.metrics.ranks import Ranks
from bench.publishing.scores import Score, TaskScores
from bench.publishing.tables import (
    direction_words,
    mode_words,
    place_words,
    process_words,
    settings_apart,
)

MAX_WRITTEN = 12
"""Largest number of settings, tasks or names that are all written; of more, only eight are.

More would push the tables off the first page. At least five are then left out, because naming one
more takes no more space than saying that there is one more.
"""

MAX_WORDS, MAX_NAMES = 24, 3
"""Largest number of words in a headline, and of tied rows that it names."""

_AXES: dict[str, Callable[[int], str]] = {
    "num_threads": lambda value: quantity(value, "thread"),
    "batch_size": lambda value: f"batch {value}",
    "num_heads": lambda value: quantity(value, "head"),
    "head_dim": lambda value: f"head size {value}",
    "method_version": lambda value: f"method {value}",
}
"""Axes that a sentence names if the board has several values of them."""


def sentences(board: Leaderboard) -> tuple[str, ...]:
    """The conclusions of a leaderboard, speed before tasks; empty where nothing can be said."""
    of_settings = _longest(board)
    varied = differing(ranking.setting.axes for ranking in board.rankings)
    said, before = [], ""
    for ranking in of_settings[: _num_written(of_settings)]:
        place, what = _where(ranking, board), _what(ranking, varied)
        found = _findings(ranking, crossovers(board).get(ranking.setting, {}))
        # A sentence does not repeat the place that the sentence before it named.
        said.append(f"{what}: {found}." if place == before else f"{place}, {what}: {found}.")
        before = place
    of_tasks = [text for task in board.tasks if (text := _task_sentence(task, board))]
    return (
        *said,
        *_more(of_settings, "settings"),
        *of_tasks[: _num_written(of_tasks)],
        *_more(of_tasks, "tasks"),
        *_one_seed(board),
        *_left_out(board),
    )


def headline(ranking: Ranking, board: Leaderboard) -> str:
    """The conclusion of one ranking in at most `MAX_WORDS` words, without brackets."""
    shape = ranking.setting.workload
    about = shape.model if isinstance(shape, ModelWorkload) else direction_words(shape).capitalize()
    about += "".join(f", {words}" for words in _weak_processes(ranking))
    unit = "pixels" if ranking.setting.is_model else "tokens"
    at, ranks = f"at {ranking.size:,} {unit}", ranking.ranks
    if ranks is None or len(ranks.names) < 2:
        return f"{about}: nothing is ranked {at}."
    first, *tied = leaders = ranks.leaders()
    if tied:
        return f"{about}: {_several(leaders)} are fastest {at}; they cannot be told apart."
    standing = next(one for one in ranking.standings if one.entry == first)
    own = ", in this implementation," if is_ours(standing.record) else ""
    words = f"{about}: {first}{own} is fastest {at}"
    if first in ranking.references:
        second = f"; {ranks.second} is second" if ranks.second else ""
        return _short(f"{words}{second}.", f"{words}.")
    words += f", {_speedup(standing)[:-1]} times as fast as {standing.reference}"
    crossing = crossovers(board).get(ranking.setting, {}).get(first)
    kind = crossing.kind if crossing else ""
    more = {"always": ", and ahead at every measured length"}.get(kind, "")
    if crossing and kind == "at" and crossing.length:
        more = f", and ahead from {crossing.length:,.0f} {unit} on"
    return _short(f"{words}{more}.", f"{words}.")


def task_headline(task: TaskScores) -> str:
    """The conclusion of one task in at most `MAX_WORDS` words, without brackets."""
    ranks = task.ranks
    if task.num_seeds == 1:
        return f"On {task.label} there is one seed, so no order is claimed."
    if ranks is None or len(ranks.names) < 2:
        return f"Nothing is ranked on {task.label}."
    first, *tied = leaders = ranks.leaders()
    if tied:
        return f"{_several(leaders)} are best on {task.label}; they cannot be told apart."
    best = next(score for score in task.scores if score.entry == first)
    words = f"{first} is best on {task.label} with {_score_words(best, task)}"
    second = f"; {ranks.second} is second" if ranks.second else ""
    return _short(f"{words}{second}.", f"{words}.")


def _short(*sentences: str) -> str:
    """The first sentence that is short enough; else the last."""
    return next((s for s in sentences if len(s.split()) <= MAX_WORDS), sentences[-1])


def _several(names: Sequence[str]) -> str:
    """Some of the names, e.g. ``a, b, c and 4 more``."""
    num_more = len(names) - MAX_NAMES
    return join_names(names if num_more < 2 else [*names[:MAX_NAMES], f"{num_more} more"])


def _num_written(everything: Sequence[object]) -> int:
    return 8 if len(everything) > MAX_WRITTEN else len(everything)


def _more(everything: Sequence[object], noun: str) -> Iterator[str]:
    if num_more := len(everything) - _num_written(everything):
        yield f"{num_more:,} more {noun} in the tables."


def _longest(board: Leaderboard) -> list[Ranking]:
    """For each setting, its ranking at the largest size at which two rows or more have a rank."""
    found: dict[Setting, Ranking] = {}
    for ranking in board.rankings:  # ascending in size within a setting
        if ranking.ranks and len(ranking.ranks.names) > 1:
            found[ranking.setting] = ranking
    return [*found.values()]


def _findings(ranking: Ranking, of_setting: Mapping[str, Crossover]) -> str:
    assert ranking.ranks
    reference = "".join(ranking.references)
    order = _order_words(ranking, ranking.ranks, reference)
    crossing = _crossing_words(of_setting, reference)
    named = [*ranking.ranks.leaders(), *(n for n, one in of_setting.items() if one.kind == "at")]
    named.append(ranking.ranks.second)
    own = in_this_implementation(ranking.standings, named)
    return "; ".join(filter(None, (order, crossing, own)))


def _order_words(ranking: Ranking, ranks: Ranks, reference: str) -> str:
    standings = {standing.entry: standing for standing in ranking.standings}

    def over(name: str) -> str:
        return "" if name == reference else f" ({_speedup(standings[name])} {reference})"

    # No row is ahead of a leader, so no leader is ahead of another.
    first, *tied = leaders = ranks.leaders()
    if tied:
        by = "" if reference in leaders else f", up to {_speedup(standings[first])} {reference}"
        return f"{join_names(leaders)} are fastest{by}; they cannot be told apart"
    words, second = f"{first} is fastest{over(first)}", ranks.second
    return f"{words}, {second} second{over(second)}" if second else words


def _speedup(standing: Standing) -> str:
    return f"{number(float(standing.value(RANKED_BY) or 0))}x"


def _crossing_words(of_setting: Mapping[str, Crossover], reference: str) -> str:
    found = sorted(
        (crossing.length, name, crossing)
        for name, crossing in of_setting.items()
        if crossing.kind == "at" and crossing.length
    )
    if not found:
        return ""
    (_, first, crossing), *others = found[: _num_written(found)]
    words = [f"{first} overtakes {reference} at {length_words(crossing, 'tokens')}"]
    words += [f"{name} at {length_words(crossing)}" for _, name, crossing in others]
    if num_more := len(found) - _num_written(found):
        words.append(f'{num_more} more in the tables, under "overtakes"')
    return ", ".join(words)


def _where(ranking: Ranking, board: Leaderboard) -> str:
    """Size and place, e.g. ``At 4,096 tokens on this CPU``."""
    setting = ranking.setting
    place = setting.device if ":" in setting.device else "this CPU"
    if len(board.timed_on) > 1:
        place = f"{setting.device} of machine {board.machines.index(setting.machine) + 1}"
    return f"At {ranking.size:,} {'pixels' if setting.is_model else 'tokens'} on {place}"


def _what(ranking: Ranking, varied: Collection[str]) -> str:
    """Direction, dtype and mode, e.g. ``causal, float32, forward``, and axes that differ.

    The end says whether all rounds, or those of some rows, were taken in one process.
    """
    shape, axes = ranking.setting.workload, ranking.setting.axes
    words = [shape.model if isinstance(shape, ModelWorkload) else direction_words(shape)]
    words += [shape.dtype, mode_words(shape.mode)]
    words += ["layer"] if shape.scope == "layer" else []
    words += [_AXES[name](axes[name]) for name in _AXES if name in varied and name in axes]
    words += [f"{name.replace('_', ' ')} {v}" for name, v in ranking.setting.extras.items()]
    words += [f"in {words}" for words in _weak_processes(ranking)]
    return ", ".join(words)


def _weak_processes(ranking: Ranking) -> Iterator[str]:
    """``one process``, or ``1 or 6 processes``; nothing if the rounds of every row had several."""
    if 1 in ranking.num_processes:
        yield process_words(ranking.num_processes)


def _task_sentence(task: TaskScores, board: Leaderboard) -> str:
    ranks = task.ranks
    if task.rungs:
        return _span_sentence(task, board)
    if ranks is None or len(ranks.names) < 2:
        return ""
    said = {score.entry: _score_words(score, task) for score in task.scores}
    first, *tied = leaders = ranks.leaders()
    if tied:
        best, last = said[first], said[tied[-1]]
        span = best if best == last else f"{best} to {last}"
        words = f"{join_names(leaders)} are best with {span}; they cannot be told apart"
    else:
        words, second = f"{first} is best ({said[first]})", ranks.second
        words += f", {second} second ({said[second]})" if second else ""
    return f"On {_task_words(task, board)}, over {task.num_seeds} seeds, {words}."


def _span_sentence(task: TaskScores, board: Leaderboard) -> str:
    """A task's spans, the largest first; of one seed, without an order."""
    shown = [s for s in task.scores if s.spans and s.may_be_ranked and not s.is_control]
    shown = sorted(shown, key=lambda s: -(s.centre or 0.0))
    if not shown:
        return ""
    by_words: dict[str, list[str]] = {}
    for score in shown[: _num_written(shown)]:
        by_words.setdefault(score.write(score.centre or 0.0), []).append(score.entry)
    (words, first), *others = by_words.items()
    held = [f"{join_names(first)} hold{'s' * (len(first) == 1)} {words} {task.rung_of}"]
    held += [f"{join_names(names)} {words}" for words, names in others]
    held += _more(shown, "rows")
    seeds = "one seed" if task.num_seeds == 1 else f"over {task.num_seeds} seeds"
    order = "; no order is claimed"
    if task.num_seeds > 1:
        pairs = task.decided.values()
        order = f"; {sum(map(bool, pairs)):,} of {len(pairs):,} pairs of rows are decided"
    return f"On {_task_words(task, board)}, {seeds}: {', '.join(held).removesuffix('.')}{order}."


def _score_words(score: Score, task: TaskScores) -> str:
    """The score that the tables show: the mean over seeds, or the median where they split."""
    value = score.centre or 0.0
    words = f"{number(value)} {task.unit}" if task.unit else f"{percent(value)} %"
    if task.rungs:
        words = f"{score.write(value)} {task.rung_of}"
    return f"a median of {words}" if score.is_split else words


def _task_words(task: TaskScores, board: Leaderboard) -> str:
    """The task's label; where another table has it too, with what tells the two apart."""
    if sum(one.label == task.label for one in board.tasks) < 2:
        return task.label
    words = [place_words(task, board), task.dtype, *settings_apart(task, board)]
    return f"{task.label} ({', '.join(words)})"


def _one_seed(board: Leaderboard) -> Iterator[str]:
    single = [task for task in board.tasks if task.num_seeds == 1 and not task.rungs]
    single = [task for task in single if any(score.accuracies for score in task.scores)]
    if single:
        labels = dict.fromkeys(_task_words(task, board) for task in single)
        yield f"On {join_names(tuple(labels))}: one seed, so no order is claimed."


def _left_out(board: Leaderboard) -> Iterator[str]:
    """Rows that are not ranked, and why: a sentence for each kind of mark, and for each task."""
    why: dict[str, list[str]] = {}
    unranked: dict[str, dict[int, list[str]]] = {}  # by mark and ranking
    for place, ranking in enumerate(board.rankings):
        for standing in ranking.standings:
            is_open = may_be_ranked(standing.record) or standing.is_control
            if standing.marks and not is_open:
                own = unranked.setdefault(standing.marks[0], {}).setdefault(place, [])
                own.append(standing.entry)
    num_tables = len(board.rankings)
    for mark, tables in unranked.items():
        where = f" in {len(tables)} of {num_tables} tables" if len(tables) < num_tables else ""
        why[f"Not ranked{where} ({mark})"] = [name for own in tables.values() for name in own]
    for task in board.tasks:
        for score in task.scores:
            if score.marks and not score.may_be_ranked and not score.is_control:
                words = f"Not ranked on {_task_words(task, board)} ({score.marks[0]})"
                why.setdefault(words, []).append(score.entry)
    for words, names in why.items():
        once = sorted(dict.fromkeys(names))
        num_more = len(once) - _num_written(once)
        shown = [*once[: _num_written(once)], *([f"{num_more} more"] if num_more else [])]
        yield f"{words}: {join_names(shown)}."
