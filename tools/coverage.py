"""How often intervals hold the truth and orders are claimed wrongly: `python -m tools.coverage`.

The project's own functions get simulated samples whose truth is known, and stored records of six
processes. Options: `seed=` of the random numbers, and `draws=`, the number of simulations of the
cheapest case; dearer ones get a share of it. docs/methodology/statistics.md shows the table.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.core.cli.errors import ConfigError
from bench.core.cli.values import run_words, words_and_options
from bench.core.comparison import Runs, seed_interval
from bench.core.observed import CONTROLS
from bench.core.record import Record, Speed
from bench.core.statistics import Ratio, paired_ratio
from bench.core.store import read_packed
from bench.publishing.document import markdown_table
from bench.publishing.metrics.crossover import crossover
from bench.publishing.metrics.ranks import decided, rank_runs, rank_speed
from bench.publishing.metrics.speedup import speedup
from tests.records import kernel_cell, ok_record, speed

USAGE = "python -m tools.coverage [seed=N] [draws=N]"
SEED, DRAWS = 20_170_612, 20_000
SHOWCASE = Path(__file__).resolve().parent.parent / "docs" / "results" / "records.jsonl.gz"
HOLDS, ERRS = "95 %", "5 %"
"""Promised shares: of intervals that hold the truth, and of rows alike that get an order."""

Draw = np.random.Generator


class Measured(NamedTuple):
    """How many of some draws held, or were wrong, in a case of `line` and `column`."""

    line: tuple[str, str]
    column: str
    nominal: str
    happened: int
    draws: int

    @property
    def percent(self) -> float:
        """The measured share."""
        return 100 * self.happened / self.draws


# --- speeds ---------------------------------------------------------------------------------------

TRUE = 2.0
"""The speed-up in a typical process."""

CROSSING = 414
"""Number of tokens at which a simulated row overtakes its reference."""

PLACES: dict[str, Callable[[Draw, int], np.ndarray]] = {
    "processes alike": lambda draw, count: np.zeros(count),
    "processes 1 % apart": lambda draw, count: draw.normal(0, 0.01, count),
    "processes 3 % apart": lambda draw, count: draw.normal(0, 0.03, count),
    "3 of 10 processes 7.5 % slower": lambda draw, count: -0.075 * (draw.random(count) < 0.3),
}
"""Noise that a process adds to the logarithm of its ratios; a standard deviation if normal."""


def ratios(draw: Draw, place: str, processes: int, each: int) -> np.ndarray:
    """Ratios over the true one, (processes, rounds), with a noise of 2 % that has a long tail."""
    noise = 0.02 * draw.standard_t(3, size=(processes, each))
    return np.asarray(np.exp(PLACES[place](draw, processes)[:, None] + noise))


def ratio_holds(draw: Draw, place: str, processes: int, each: int) -> bool:
    """Whether the interval of a speed-up holds that of a typical process."""
    times = (1 / (TRUE * ratios(draw, place, processes, each))).ravel().tolist()
    rounds, own = range(len(times)), np.repeat(range(processes), each).tolist()
    found = paired_ratio(times, rounds, [1.0] * len(times), rounds, own)
    assert found is not None and found.low is not None and found.high is not None
    return found.low <= TRUE <= found.high


def crossover_holds(draw: Draw, place: str, processes: int, each: int) -> bool:
    """Whether the interval of a crossover between three lengths holds the true one."""
    by_length = {
        length: timed(ratios(draw, place, processes, each) * (length / CROSSING) ** 0.8, length)
        for length in (256, 1024, 4096)
    }
    found = crossover(by_length, {})
    low, high = (found.interval if found else None) or (0.0, 0.0)
    return low <= CROSSING <= high


def order_is_claimed(draw: Draw, place: str, processes: int, each: int) -> bool:
    """Whether one of two rows that are alike, timed in the same rounds, is placed ahead."""
    found = rank_speed({name: timed(ratios(draw, place, processes, each)) for name in "ab"})
    return found is not None and found.places[0] != (1, 2)


def timed(of_rounds: np.ndarray, seq_len: int = 1024) -> Record:
    """A record with these ratios, (processes, rounds), over a reference that takes a second."""
    processes, each = of_rounds.shape
    own = tuple(np.repeat(range(processes), each).tolist()) if processes > 1 else ()
    times = (1 / of_rounds).ravel().tolist()
    keys = {"rounds_key": "0" * 16, "reference_key": "1" * 16}
    return ok_record(
        kernel_cell("nala", seq_len=seq_len),
        speed(times, [1.0] * len(times), processes=own, **keys),
    )


def speeds(seed: int, draws: int) -> Iterator[Measured]:
    """Speed-ups, crossovers and ranks of one process with 18 rounds, and of six with 3 each."""
    cases = [
        ("interval of a speed-up", HOLDS, ratio_holds, [*PLACES], 20),
        ("interval of a crossover", HOLDS, crossover_holds, [*PLACES][::2], 200),
        ("order of two rows alike", ERRS, order_is_claimed, [*PLACES][:1], 20),
    ]
    for of, nominal, happens, places, dear in cases:
        for place in places:
            for column, processes, each in (("1 process", 1, 18), ("6 processes", 6, 3)):
                draw, own = np.random.default_rng((seed, dear, processes)), max(1, draws // dear)
                count = sum(happens(draw, place, processes, each) for _ in range(own))
                yield Measured((of, place), column, nominal, count, own)


def six_processes() -> Iterator[list[Ratio]]:
    """Speed-ups of each of the six processes of stored records, controls left out."""
    for record in read_packed(SHOWCASE):
        result, is_control = record.result, record.cell.mechanism in CONTROLS
        if is_control or not isinstance(result, Speed) or len({*result.processes}) != 6:
            continue
        if result.reference_key != record.cell.key:
            parts = (speedup(replace(record, result=part)) for part in by_process(result))
            yield [part for part in parts if part]


def stored() -> Measured:
    """How often the interval of one process holds the median of the five others."""
    found = []
    for parts in six_processes():
        for part in (part for part in parts if part.low is not None and part.high is not None):
            others = np.median([other.median for other in parts if other is not part])
            found.append(bool((part.low or 0.0) <= others <= (part.high or 0.0)))
    line = ("interval of a speed-up", "stored: the median of 5 others")
    return Measured(line, "1 process", HOLDS, sum(found), len(found))


def spans() -> tuple[float, float, float]:
    """Largest over smallest of six stored speed-ups, less 1: median row, worst tenth, worst row."""
    medians = ([part.median for part in parts] for parts in six_processes())
    found = [max(own) / min(own) - 1 for own in medians]
    return float(np.median(found)), float(np.quantile(found, 0.9)), max(found)


def by_process(result: Speed) -> Iterator[Speed]:
    """The rounds of each process alone."""
    samples = [*zip(result.processes, result.rounds, result.latency_s, strict=True)]
    beside = dict(zip(result.reference_rounds, result.reference_latency_s, strict=True))
    for process in sorted({*result.processes}):
        own = {number: seconds for p, number, seconds in samples if p == process}
        shared = own.keys() & beside.keys()
        yield replace(
            result,
            latency_s=tuple(own.values()),
            rounds=tuple(own),
            processes=(),
            reference_latency_s=tuple(beside[number] for number in shared),
            reference_rounds=tuple(shared),
        )


# --- scores ---------------------------------------------------------------------------------------


def failing(share: float) -> Callable[[Draw, tuple[int, ...]], np.ndarray]:
    """Scores of runs, of which a share fails to learn."""

    def of(draw: Draw, size: tuple[int, ...]) -> np.ndarray:
        return np.where(draw.random(size) < share, 0.25, 0.97) + draw.normal(0, 0.01, size)

    return of


SCORES: dict[str, Callable[[Draw, tuple[int, ...]], np.ndarray]] = {
    "normal": lambda draw, size: draw.normal(0.9, 0.02, size),
    "near 100 %": lambda draw, size: 1 - draw.exponential(0.02, size),
    **{f"1 run in {n} fails": failing(1 / n) for n in (10, 5, 3)},
}
"""Scores of runs, by how they spread over seeds."""


def scores(seed: int, draws: int) -> Iterator[Measured]:
    """Intervals of a score, for the typical seed and for the mean, and orders of pairs."""
    draw = np.random.default_rng((seed, 1))
    for name, generate in SCORES.items():
        many = generate(draw, (1_000_000,))
        truths = {"typical seed": np.median(many), "mean": np.mean(many)}
        for seeds in (3, 5, 8):
            one, other = generate(draw, (2, draws, seeds))
            low, high = seed_interval(one)
            for what, truth in truths.items():
                held, of = int(np.sum((low <= truth) & (truth <= high))), "interval of a score: "
                yield Measured((of + what, name), f"{seeds} seeds", HOLDS, held, draws)
            low, high = seed_interval(one - other)
            wrong = int(np.sum((low > 0) | (high < 0)))
            yield Measured(("order of two rows alike", name), f"{seeds} seeds", ERRS, wrong, draws)


def tables(seed: int, draws: int) -> Iterator[Measured]:
    """Tables of ten rows that are alike: whether any pair is ordered, by ranks and by Holm."""
    draw, own = np.random.default_rng((seed, 2)), max(1, draws // 50)
    for name, generate in SCORES.items():
        for seeds in (3, 5):
            wrong = {"ranks": 0, "Holm's correction": 0}
            for values in generate(draw, (own, 10, seeds)):
                rows = {f"{i}": Runs(scores=dict(enumerate(each))) for i, each in enumerate(values)}
                ranks = rank_runs(rows)
                wrong["ranks"] += bool(ranks and {*ranks.places} != {(1, 10)})
                wrong["Holm's correction"] += any(decided(rows, less_is_better=False).values())
            for what, count in wrong.items():
                line = (f"any order of ten rows alike: {what}", name)
                yield Measured(line, f"{seeds} seeds", ERRS, count, own)


# --- the command ----------------------------------------------------------------------------------


def measured(seed: int = SEED, draws: int = DRAWS) -> list[list[Measured]]:
    """All cases of speeds, and all of scores."""
    return [
        [stored(), *speeds(seed, draws)],
        sorted([*scores(seed, draws), *tables(seed, draws)], key=lambda one: one.line[0]),
    ]


def table(found: Iterable[Measured]) -> str:
    """Nominal beside measured, in Markdown: one line per case, one column per size of a study."""
    cells: dict[tuple[str, str, str], dict[str, str]] = {}
    for one in found:
        own = cells.setdefault((*one.line, one.nominal), {})
        own[one.column] = f"{one.percent:.1f}"
    columns = [*dict.fromkeys(column for own in cells.values() for column in own)]
    rows = [(*line, *(own.get(column, "") for column in columns)) for line, own in cells.items()]
    return markdown_table(("of", "truth", "nominal", *columns), rows, "llr" + "r" * len(columns))


def main(argv: list[str] | None = None) -> int:
    """Print both tables, and how many draws they rest on."""
    return run_words(_main, argv, USAGE)


def _main(words: list[str]) -> int:
    names, options = words_and_options(words, ("seed", "draws"), USAGE)
    if names or not all(value.isdecimal() and int(value) for value in options.values()):
        raise ConfigError(f"seed= and draws= take whole numbers above zero. Usage: {USAGE}")
    draws = int(options.get("draws", DRAWS))
    found = measured(int(options.get("seed", SEED)), draws)
    print(f"Measured shares in %, of {draws:,} draws for scores and fewer for the rest.")
    print("", *(f"{table(part)}\n" for part in found), sep="\n")
    middle, tenth, worst = spans()
    print(
        f"Speed-ups of six stored processes span {middle:.0%} in the median row, {tenth:.0%} in "
        f"nine of ten and {worst:.0%} at most."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
