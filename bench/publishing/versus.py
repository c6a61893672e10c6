"""When A beats B: verdicts on a pair of rows in every setting, and axes along which they flip."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench.core.cli.errors import ConfigError, check_known
from bench.core.format import column_for, plain, quantity, ratio_words
from bench.core.grouping import grouped
from bench.core.record import Speed
from bench.publishing.document import Table, text_table
from bench.publishing.growth import crossovers
from bench.publishing.leaderboard import Leaderboard, differing
from bench.publishing.metrics import find_metric
from bench.publishing.metrics.crossover import length_words
from bench.publishing.metrics.marks import NEEDS_SEEDS, may_be_ranked
from bench.publishing.metrics.ranks import Ranks, rank_runs, rank_speed
from bench.publishing.metrics.speedup import ratio_between
from bench.publishing.tables import Section, place_words, setting_words, settings_apart

TIE = "tie"
"""The verdict where the two cannot be told apart, or are equal."""

COUNTED = {
    "peak_memory_bytes": "less memory",
    "state_bytes": "smaller state",
    "flops": "fewer FLOPs",
}
"""Metrics that do not vary from call to call, with the words for winning by them."""

FASTER, BETTER, HOLDS = "faster", "more accurate", "holds more"

_QUESTIONS = {
    FASTER: "is faster",
    "less memory": "takes less memory",
    "smaller state": "has the smaller state",
    "fewer FLOPs": "needs fewer FLOPs",
    BETTER: "is more accurate",
    HOLDS: "holds more",
}


@dataclass(frozen=True, kw_only=True)
class PairVerdict:
    """Winner of one comparison in one setting or on one task.

    Attributes:
        of: ``faster``, ``more accurate``, ``holds more``, or a value of `COUNTED`.
        place: the setting or the task, in words.
        size: the sequence length, or a model's image size; None for a task.
        axes: axes of the setting, its size included, or of the task, by name.
        winner: a row's name, or `TIE`.
        words: the numbers that the verdict rests on.
    """

    of: str
    place: str
    size: int | None
    axes: Mapping[str, Any]
    winner: str
    words: str


@dataclass(frozen=True, kw_only=True)
class Flip:
    """An axis along which the verdict changes while all others stay as they are.

    Attributes:
        winners: value of the axis and its winner, in ascending order, ties included.
    """

    of: str
    axis: str
    rest: Mapping[str, Any]
    winners: tuple[tuple[Any, str], ...]


@dataclass(frozen=True, kw_only=True)
class Versus:
    """Comparison of two rows."""

    names: tuple[str, str]
    verdicts: tuple[PairVerdict, ...]
    flips: tuple[Flip, ...]


def versus(board: Leaderboard, one: str, other: str) -> Versus:
    """Compare two rows wherever both have a number that may be ranked.

    Verdicts are never taken across settings, machines or tasks.

    Raises:
        ConfigError: no row has that name, or the two share no setting and no task.
    """
    known = {row.entry for row in board.rows}
    for name in (one, other):
        check_known(name, known, f"versus: no row is called {name!r}.")
    if one == other:
        raise ConfigError(f"versus compares two rows; it was given {one!r} twice.")
    found = (*_of_timings(board, one, other), *_of_tasks(board, one, other))
    if not found:
        raise ConfigError(_why_nothing(board, one, other))
    return Versus(names=(one, other), verdicts=found, flips=tuple(_flips(found)))


def _why_nothing(board: Leaderboard, one: str, other: str) -> str:
    """Why two rows have no verdict: the marks that forbid one, or no number in the same place."""
    places = [
        {s.entry: (s.marks, may_be_ranked(s.record)) for s in ranking.standings if s.record.result}
        for ranking in board.rankings
    ]
    places += [
        {s.entry: (s.marks, s.may_be_ranked) for s in task.scores if s.accuracy is not None}
        for task in board.tasks
    ]
    why: dict[str, None] = {}
    for rows in places:
        for name in (one, other) if {one, other} <= rows.keys() else ():
            marks, is_ranked = rows[name]
            if marks and not is_ranked:
                why[f"{name} ({marks[0]})"] = None
    if why:
        return (
            f"versus: wherever {one} and {other} both have numbers, one of them may not be ranked: "
            f"{', '.join(why)}."
        )
    return (
        f"versus: {one} and {other} have numbers in no setting and on no task together. "
        f"Measure both in one sweep: attention=[{one},{other}]."
    )


def _of_timings(board: Leaderboard, one: str, other: str) -> Iterator[PairVerdict]:
    for ranking in board.rankings:
        rows = {s.entry: s.record for s in ranking.standings}
        both = {name: rows[name] for name in (one, other) if name in rows}
        if len(both) < 2 or not all(r.result and may_be_ranked(r) for r in both.values()):
            continue
        axes = ranking.setting.axes | {ranking.setting.workload.size_axis: ranking.size}
        place = setting_words(ranking.setting, board)
        here = partial(PairVerdict, place=place, size=ranking.size, axes=axes)
        speeds = [r.result for r in rows.values() if isinstance(r.result, Speed)]
        # Over several references, which may share a label, speed-ups cannot be ordered.
        has_one = len({speed.reference_key for speed in speeds}) == 1
        ranks = rank_speed(both) if has_one else None
        if ranks and len(ranks.names) == 2:
            ratio = ratio_words(ratio_between(*both.values()))  # empty for different rounds
            words = ", ".join(filter(None, [ratio, _odds(ranks)]))
            yield here(of=FASTER, winner=_winner(ranks), words=words)
        for metric, of in COUNTED.items():
            mine, theirs = (find_metric(metric).of(record) for record in both.values())
            if mine is not None and theirs is not None:
                winner = TIE if mine == theirs else (one, other)[theirs < mine]
                yield here(of=of, winner=winner, words=_pair(metric, (mine, theirs)))


def _pair(metric: str, values: Sequence[Any]) -> str:
    column = column_for(metric, values)
    return f"{column.write(values[0])} vs. {column.write(values[1])} {column.unit}"


def _of_tasks(board: Leaderboard, one: str, other: str) -> Iterator[PairVerdict]:
    for task in board.tasks:
        both = [s for s in task.scores if s.entry in (one, other)]
        scores = {
            s.entry: s
            for s in both
            if s.accuracy is not None and (s.may_be_ranked or s.needs_seeds)
        }
        if len(scores) < 2:
            continue
        runs = {name: scores[name].runs for name in (one, other)}
        ranks = rank_runs(runs, less_is_better=bool(task.unit))
        values = " vs. ".join(s.write(s.centre or 0.0) for s in map(scores.__getitem__, runs))
        odds = _odds(ranks) if ranks else "one seed"
        if any(score.needs_seeds for score in scores.values()):
            ranks, odds = None, f"not settled ({NEEDS_SEEDS})"
        apart = settings_apart(task, board)
        settings = {name: plain(v) for name, v in task.named_settings.items()}
        yield PairVerdict(
            of=HOLDS if task.rungs else BETTER,
            place=" · ".join([task.label, place_words(task, board), task.dtype, *apart]),
            size=None,
            axes={"task": task.label} | task.place | settings,
            winner=_winner(ranks) if ranks else TIE,
            words=f"{values} {task.rung_of or task.unit or '%'}" + (f", {odds}" if odds else ""),
        )


def _winner(ranks: Ranks) -> str:
    leaders = ranks.leaders()
    return leaders[0] if len(leaders) == 1 and len(ranks.names) == 2 else TIE


def _odds(ranks: Ranks) -> str:
    """Probability that the better row is ahead, if the two cannot be told apart; else empty."""
    if len(ranks.names) < 2 or _winner(ranks) != TIE:
        return ""
    return f"{ranks.names[0]} ahead with {100 * ranks.wins[0, 1]:.0f} %"


def _flips(verdicts: Sequence[PairVerdict]) -> Iterator[Flip]:
    """Axes along which each row wins somewhere while all other axes stay the same."""
    for axis in dict.fromkeys(name for verdict in verdicts for name in verdict.axes):

        def kept(verdict: PairVerdict, axis: str = axis) -> tuple[object, ...]:
            return (verdict.of, *(pair for pair in verdict.axes.items() if pair[0] != axis))

        for group in grouped((v for v in verdicts if axis in v.axes), kept).values():
            if len({verdict.winner for verdict in group} - {TIE}) < 2:
                continue
            ordered = sorted(group, key=lambda verdict: _order(verdict.axes[axis]))
            yield Flip(
                of=group[0].of,
                axis=axis,
                rest={k: v for k, v in group[0].axes.items() if k != axis},
                winners=tuple((verdict.axes[axis], verdict.winner) for verdict in ordered),
            )


def _order(value: object) -> tuple[object, ...]:
    """Sort key: None first, then numbers, then words alphabetically."""
    is_number = isinstance(value, (int, float))
    return (value is not None, not is_number, value if is_number else str(value))


def versus_lines(found: Versus, board: Leaderboard) -> tuple[str, ...]:
    """Sentences: how often each row wins, every flip, and crossovers."""
    return (*_tallies(found), *_flip_lines(found), *_crossing_lines(found, board))


def _tallies(found: Versus) -> Iterator[str]:
    for of in dict.fromkeys(verdict.of for verdict in found.verdicts):
        winners = [verdict.winner for verdict in found.verdicts if verdict.of == of]
        counts = [f"{name} {winners.count(name)}" for name in found.names if name in winners]
        if TIE in winners:
            counts.append(quantity(winners.count(TIE), "tie"))
        where = f"in {quantity(len(winners), 'place')}"
        yield f"{of[0].upper()}{of[1:]}, {where}: {', '.join(counts)}."


def _flip_lines(found: Versus) -> Iterator[str]:
    for flip in found.flips:
        parts = []
        for winner in dict.fromkeys(winner for _, winner in flip.winners):
            values = [_value(value) for value, own in flip.winners if own == winner]
            parts.append(f"{winner} at {', '.join(values)}")
        varied = differing([one.axes for one in found.verdicts if one.of == flip.of])
        rest = [f"{name} {_value(v)}" for name, v in flip.rest.items() if name in varied]
        where = f" ({', '.join(rest)})" if rest else ""
        question = f"Which {_QUESTIONS[flip.of]}"
        yield f"{question} flips with {flip.axis}{where}: {'; '.join(parts)}."


def _value(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _crossing_lines(found: Versus, board: Leaderboard) -> Iterator[str]:
    """Crossovers of the pair, if one of the two is the other's reference."""
    for setting, of_setting in crossovers(board).items():
        references = {name for r in board.rankings if r.setting == setting for name in r.references}
        for name, reference in (found.names, found.names[::-1]):
            crossing = of_setting.get(name)
            if references == {reference} and crossing and crossing.kind == "at":
                place = setting_words(setting, board)
                length = length_words(crossing, "tokens")
                yield f"{name} overtakes {reference} at {length} ({place})."


def versus_sections(found: Versus) -> tuple[Section, ...]:
    """Every verdict with its numbers: one table per setting, and one of tasks."""
    by_place = grouped(found.verdicts, lambda v: "" if v.size is None else v.place)
    return tuple(
        Section(title=place or "Tasks", tables=(_table(found.names, verdicts),))
        for place, verdicts in by_place.items()
    )


def _table(names: tuple[str, str], verdicts: Sequence[PairVerdict]) -> Table:
    kinds = tuple(dict.fromkeys(verdict.of for verdict in verdicts))
    rows: dict[str, dict[str, str]] = {}
    for verdict in verdicts:
        row = rows.setdefault(verdict.place if verdict.size is None else f"{verdict.size:,}", {})
        row[verdict.of] = f"{verdict.winner}: {verdict.words}" if verdict.words else verdict.winner
    return text_table(
        title=f"{names[0]} vs. {names[1]}",
        header=("at", *kinds),
        rows=tuple((at, *(row.get(kind, "") for kind in kinds)) for at, row in rows.items()),
        num_words=1 + len(kinds),
    )
