"""Ranks with ties: the places that the data leave open, and how likely a row is ahead of another.

Rows that shared their rounds are resampled together, round by round, so that what slowed a round
slows all of them in the same resamples. A bootstrap of few rounds is too narrow, so an order is
claimed only where the sign test over the rounds agrees. Rows of different rounds are compared by
their speed-ups over the reference of both, and tied unless each had its rounds in several
processes: an interval of one process often misses the ratio in another. Seeds are fewer still, so
scores are compared seed by seed, by `bench.core.comparison`. Each pair is judged at 95 % by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations
from statistics import fmean

import numpy as np

from bench.core.comparison import Runs, compare, signs
from bench.core.grouping import grouped
from bench.core.record import Record, Speed
from bench.core.statistics import (
    BOOTSTRAP_SEED,
    CONFIDENCE,
    MIN_ROUNDS,
    NUM_RESAMPLES,
    Interval,
    num_cut,
    resampled_medians,
)
from bench.publishing.metrics.speedup import round_ratios, speedup

Rank = tuple[int, int]
"""First and last place that the data leave open."""

_CERTAIN = (1 + CONFIDENCE) / 2


def rank_words(rank: Rank | None) -> str:
    """``2``, or ``2-4`` where the order within is not settled; empty without a rank."""
    return "-".join(map(str, dict.fromkeys(rank or ())))


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A row of a table that ranks.

    Attributes:
        rank: None for a row that may not be ranked, or cannot be compared with another.
        is_control: whether it is shown beside the others and not ranked among them.
        marks: what a reader must know before the numbers, the worst first.
    """

    entry: str
    rank: Rank | None = None
    is_control: bool = False
    marks: tuple[str, ...] = ()

    @property
    def leads(self) -> bool:
        """Whether no other row is known to be better."""
        return self.rank is not None and self.rank[0] == 1

    @property
    def rank_words(self) -> str:
        """The rank as text, or ``control``."""
        return "control" if self.is_control else rank_words(self.rank)

    @property
    def columns(self) -> dict[str, str | int | None]:
        """Its own columns of `bench.publishing.frame`."""
        first, last = self.rank or (None, None)
        rank = {"rank_first": first, "rank_last": last, "is_control": self.is_control}
        return {"name": self.entry, "marks": "; ".join(self.marks) or None, **rank}


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """Order of rows in one setting.

    Attributes:
        names: best first, by their medians or means.
        places: rank of each name.
        wins: ``wins[i, j]`` is how likely i is ahead of j: the share of resamples of the rounds in
            which it is, ties counting half, or 0.5 for rounds that cannot be compared; for scores,
            by `bench.core.comparison.compare`.
        is_ahead: ``is_ahead[i, j]`` is whether that is settled at 95 %.
        groups: maximal runs of consecutive names of which no two can be told apart; they may
            overlap, because "cannot be told apart" is not transitive.
    """

    names: tuple[str, ...]
    places: tuple[Rank, ...]
    wins: np.ndarray = field(compare=False)  # arrays have no truth value
    is_ahead: np.ndarray = field(compare=False)
    groups: tuple[tuple[str, ...], ...]

    def of(self, name: str) -> Rank | None:
        """Rank of a name; None if it has none."""
        return dict(zip(self.names, self.places, strict=True)).get(name)

    def is_behind(self, name: str, other: str) -> bool:
        """Whether `other` is ahead of `name`, both of them ranked, and that is settled."""
        return bool(self.is_ahead[self.names.index(other), self.names.index(name)])

    def leaders(self) -> tuple[str, ...]:
        """Names that share the first place; a single one if that is settled."""
        return tuple(n for n, (first, _) in zip(self.names, self.places, strict=True) if first == 1)

    @property
    def second(self) -> str:
        """Name of the row whose second place is settled; empty if there is none."""
        return self.names[1] if self.places[1:2] == ((2, 2),) else ""


def place_among(own: Interval, everyone: Sequence[Interval]) -> Rank:
    """Places that an interval leaves open among `everyone`, itself included; higher is better."""
    low, high = own
    first = 1 + sum(other_low > high for other_low, _ in everyone)
    return first, len(everyone) - sum(other_high < low for _, other_high in everyone)


def rank_speed(records: Mapping[str, Record]) -> Ranks | None:
    """Rank records of one shape by their speed-up over one reference, if it has an interval."""
    rows = {
        name: _Row.of(record)
        for name, record in records.items()
        if (ratio := speedup(record)) and ratio.low is not None
    }
    names = sorted(rows, key=lambda name: (-rows[name].median, name))
    ordered = [rows[name] for name in names]
    return _ranks(names, *_compare_rows(ordered)) if names else None


@dataclass(frozen=True, kw_only=True)
class _Row:
    """Ratios over the reference, by round, or by process where several shared the rounds.

    Attributes:
        together: a key that is equal for rows timed in the same rounds.
        has_processes: whether the values, and so the interval, are of processes.
    """

    values: np.ndarray
    median: float
    interval: Interval
    together: tuple[object, ...]
    has_processes: bool

    @classmethod
    def of(cls, record: Record) -> _Row:
        ratio = speedup(record)
        assert ratio is not None and ratio.low is not None and ratio.high is not None
        assert isinstance(record.result, Speed)
        by_round = round_ratios(record)
        # Records that do not say which rounds they shared are compared as if they shared none.
        key = record.result.rounds_key or id(record)
        return cls(
            values=np.array([*by_round.values()]),
            median=ratio.median,
            interval=(ratio.low, ratio.high),
            together=(key, *by_round),
            has_processes=len({*record.result.processes}) > 1,
        )


def _compare_rows(rows: Sequence[_Row]) -> tuple[np.ndarray, np.ndarray]:
    """Shares of wins, and whether row i is ahead of row j for certain."""
    wins = np.full((len(rows), len(rows)), 0.5)
    is_ahead = np.zeros((len(rows), len(rows)), dtype=bool)
    groups = grouped(range(len(rows)), lambda i: rows[i].together)
    for members in groups.values():
        place = np.ix_(members, members)
        wins[place], is_ahead[place] = _compare_rounds(np.stack([rows[i].values for i in members]))
    if len(groups) > 1:
        _compare_apart(rows, [*groups.values()], wins, is_ahead)
    return wins, is_ahead


def _compare_rounds(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compare rows that shared their rounds: (rows, rounds) -> two of (rows, rows)."""
    num_rows, num_rounds = values.shape
    more = (values[:, None] > values[None]).sum(axis=-1)
    less = more.T
    # Ahead in every round is ahead in every resample: only the others have to be drawn.
    wins = np.where(more == num_rounds, 1.0, np.where(less == num_rounds, 0.0, 0.5))
    open_pairs = (more < num_rounds) & (less < num_rounds) & ~np.eye(num_rows, dtype=bool)
    drawn = np.flatnonzero(open_pairs.any(axis=1))
    if len(drawn):
        place = np.ix_(drawn, drawn)
        shares = _shares(np.stack([_medians_together(values[i]) for i in drawn]))
        wins[place] = np.where(open_pairs[place], shares, wins[place])
    # The sign test: at most `num_cut` rounds may disagree.
    agrees = num_rounds - more <= num_cut(num_rounds)
    return wins, (wins >= _CERTAIN) & agrees & (num_rounds >= MIN_ROUNDS)


def _medians_together(values: np.ndarray) -> np.ndarray:
    """Medians of resampled rounds; the same rounds in the same resample, whatever the row."""
    num_rounds = len(values)
    ascending = np.sort(values)
    # How many drawn values of each resample are no larger than each of the values.
    is_within = (values <= ascending[:, None]).astype(np.float32)
    drawn = is_within @ _counts(num_rounds)
    lower, upper = (
        (drawn < middle + 1).sum(axis=0) for middle in ((num_rounds - 1) // 2, num_rounds // 2)
    )
    medians: np.ndarray = (ascending[lower] + ascending[upper]) / 2
    return medians


@lru_cache(maxsize=16)
def _counts(num_rounds: int) -> np.ndarray:
    """How often each round is in each resample: (rounds, resamples)."""
    draw = np.random.default_rng(BOOTSTRAP_SEED)
    picks = draw.integers(0, num_rounds, size=(NUM_RESAMPLES, num_rounds))
    counts = np.zeros((num_rounds, NUM_RESAMPLES), dtype=np.float32)
    np.add.at(counts, (picks, np.arange(NUM_RESAMPLES)[:, None]), 1)
    return counts


def _compare_apart(
    rows: Sequence[_Row], groups: Sequence[Sequence[int]], wins: np.ndarray, is_ahead: np.ndarray
) -> None:
    """Fill in pairs that shared no rounds but had several processes: resampled apart.

    A row is ahead if the intervals do not overlap. Both arrays, of shape (rows, rows), are changed
    in place; pairs of which a row had one process stay as they are.
    """
    stream_of = {i: stream for stream, members in enumerate(groups) for i in members}
    medians = np.stack(
        [resampled_medians(np.sort(row.values), stream_of[i]) for i, row in enumerate(rows)]
    )
    streams = np.array([stream_of[i] for i in range(len(rows))])
    several = np.array([row.has_processes for row in rows])
    apart = (streams[:, None] != streams[None]) & several[:, None] & several[None]
    wins[apart] = _shares(medians)[apart]
    lows, highs = np.array([row.interval for row in rows]).T
    is_ahead[apart] = (lows[:, None] > highs[None])[apart]


def _shares(resampled: np.ndarray) -> np.ndarray:
    """(rows, resamples) -> how often a row is above another, ties half: (rows, rows)."""
    above = np.stack([np.count_nonzero(own > resampled, axis=1) for own in resampled])
    above = above / resampled.shape[1]
    shares: np.ndarray = (above + 1 - above.T) / 2
    return shares


def rank_runs(rows: Mapping[str, Runs], *, less_is_better: bool = False) -> Ranks | None:
    """Rank rows over seeds, each pair by `bench.core.comparison.compare`.

    A seed that one of a pair lacks could have had any score, so an order is claimed only if it
    holds for all of them. A row without any score is left out. `less_is_better` is for losses,
    which have no upper bound. None with fewer than two seeds: one seed is a single draw.
    """
    if len({seed for row in rows.values() for seed in row.known}) < 2:
        return None
    sign = -1.0 if less_is_better else 1.0
    means = {name: sign * fmean(row.known.values()) for name, row in rows.items() if row.known}
    names = sorted(means, key=lambda name: (-means[name], name))
    wins = np.full((len(names), len(names)), 0.5)
    is_ahead = np.zeros(wins.shape, dtype=bool)
    for i, j in combinations(range(len(names)), 2):
        found = compare(rows[names[i]], rows[names[j]], less_is_better=less_is_better)
        if found:
            wins[i, j], wins[j, i] = found.ahead, 1 - found.ahead
            is_ahead[i, j], is_ahead[j, i] = found.is_ahead, found.is_behind
    return _ranks(names, wins, is_ahead)


Pair = tuple[str, str]


def decided(rows: Mapping[str, Runs], *, less_is_better: bool) -> dict[Pair, int]:
    """For each pair of rows 1, -1 or 0, as `signs`, with Holm's correction over all pairs."""
    pairs = [*combinations(sorted(rows), 2)]
    found = [compare(rows[a], rows[b], less_is_better=less_is_better) for a, b in pairs]
    return dict(zip(pairs, signs(found), strict=True))


def _ranks(names: Sequence[str], wins: np.ndarray, is_ahead: np.ndarray) -> Ranks:
    size = len(names)
    first = 1 + is_ahead.sum(axis=0)
    last = size - is_ahead.sum(axis=1)
    told_apart = is_ahead | is_ahead.T
    return Ranks(
        names=tuple(names),
        places=tuple((int(a), int(b)) for a, b in zip(first, last, strict=True)),
        wins=wins,
        is_ahead=is_ahead,
        groups=_groups(names, lambda i, j: bool(told_apart[i, j])),
    )


def _groups(
    names: Sequence[str], are_apart: Callable[[int, int], bool]
) -> tuple[tuple[str, ...], ...]:
    found: list[tuple[str, ...]] = []
    reach = 0
    for start in range(len(names)):
        end = start + 1
        while end < len(names) and not any(are_apart(i, end) for i in range(start, end)):
            end += 1
        if end - start > 1 and end > reach:
            found.append(tuple(names[start:end]))
            reach = end
    return tuple(found)
