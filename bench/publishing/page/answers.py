"""Which of the first test examples the models of a task solved, and McNemar's test of each pair.

It compares trained models of one seed, not mechanisms, and ranks nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from bench.core.answers import TwoModels, mcnemar, right_answers
from bench.core.cli.errors import ConfigError
from bench.core.examples import NO_ANSWER, Examples, examples_folder, read_examples
from bench.core.grouping import grouped
from bench.core.record import Quality, Record
from bench.publishing.page.rows import Json, PageRows

NUM_SHOWN = 64
"""Largest number of examples that the page shows of a test set."""

MAX_BITS = 8192
"""Largest number of answers that the page shows of a row, 2 KB of text."""

MAX_ROWS = 100
"""Largest number of rows that are compared in a group; each pair takes some 15 bytes."""

MAX_TOKENS, MAX_ANSWERS = 160, 32
"""Largest number of tokens and answers that the page writes of an example."""

MAX_CHARACTERS = 400_000
"""Largest size of all examples together, as text."""

Run = tuple[str, int, int]
"""Conditions that models of different rows must share: test set, seed and number of answers."""


def answered(rows: PageRows, out: Path) -> Json:
    """Solved examples and McNemar's test by group, and the examples by their test set.

    Each group has, beside seed and test set, ``asked``, how many answers each of the first examples
    has; ``is_clustered``, whether any has several; ``rows`` and the ``bits`` of each, 1 where an
    answer is right, as hexadecimal digits; and ``pairs``, the upper triangle of these rows, with
    the answers that only the first and only the second has right, and a p-value. Damaged files of
    examples count as missing.
    """
    groups, shown, num_characters = {}, dict[str, list[list[str]]](), 0
    of_row = rows.columns.numbers.get("group", ())
    with_group = (row for row, group in enumerate(of_row) if group is not None)
    for group, members in grouped(with_group, of_row.__getitem__).items():
        found = _same_test(rows.records, members)
        if found is None:
            continue
        (test_set, seed, _), models = found
        examples = _examples(out, test_set)
        results = [result for result, _ in models.values()]
        asked = _asked(examples, results)
        right = {row: answers for row, (_, answers) in models.items()}
        groups[str(group)] = {
            "seed": seed,
            "test_set": test_set,
            "num_answers": len(next(iter(right.values()))),
            "asked": asked,
            "is_clustered": any(result.answers_per_cluster != 1 for result in results),
            "rows": list(right),
            "bits": [np.packbits(one[: sum(asked)]).tobytes().hex() for one in right.values()],
            "pairs": [_pair(right[a], right[b]) for a, b in combinations(right, 2)],
        }
        if examples is not None and test_set not in shown:
            lines = [list(line) for line in _lines(examples, len(asked))]
            num_characters += sum(len(text) for line in lines for text in line)
            if num_characters <= MAX_CHARACTERS:
                shown[test_set] = lines
    return {"words": TwoModels.WORDS, "groups": groups, "examples": shown}


def _same_test(
    records: Sequence[Sequence[Record]], members: Sequence[int]
) -> tuple[Run, dict[int, tuple[Quality, np.ndarray]]] | None:
    """Models of as many rows as possible that answered one test set with one seed, by row.

    The smallest of several seeds; None if no two rows have answers to the same examples.
    """
    found: dict[Run, dict[int, tuple[Quality, np.ndarray]]] = {}
    for row in members:
        for record in records[row]:
            result = record.result
            if not isinstance(result, Quality) or not (result.answers and result.test_set):
                continue
            right = right_answers(result.answers, result.num_examples)
            run = (result.test_set, record.cell.task.seed, len(right))
            found.setdefault(run, {})[row] = (result, right)
    best = min(found, key=lambda run: (-len(found[run]), run[1], run[0]), default=None)
    if best is None or len(found[best]) < 2:
        return None
    return best, dict(list(found[best].items())[:MAX_ROWS])


def _examples(out: Path, test_set: str) -> Examples | None:
    try:
        return read_examples(examples_folder(out) / f"{test_set}.json")
    except ConfigError:
        return None


def _asked(examples: Examples | None, results: Sequence[Quality]) -> list[int]:
    """Number of answers of each of the first examples; empty if file and records lack it."""
    num_answers = results[0].num_examples
    if examples is not None:
        counts = examples.num_asked[:NUM_SHOWN]
    else:
        [(size, _)] = Counter(result.answers_per_cluster for result in results).most_common(1)
        counts = [size] * min(NUM_SHOWN, num_answers // size) if size else []
    kept = np.cumsum(counts) <= min(MAX_BITS, num_answers)
    return [count for count, is_kept in zip(counts, kept.tolist(), strict=True) if is_kept]


def _pair(first: np.ndarray, second: np.ndarray) -> list[int | str]:
    two = mcnemar(first, second)
    return [two.only_first, two.only_second, two.p_words]


def _lines(examples: Examples, count: int) -> Iterator[tuple[str, str]]:
    """Tokens and answers of the first examples, as text; no tokens if inputs are not token ids."""
    for place, answers in enumerate(examples.answers[:count]):
        inputs = examples.inputs[place] if isinstance(examples.inputs, list) else []
        at = examples.positions[place] if examples.positions is not None else None
        said = [
            f"{answer} at {at[i]}" if at is not None and len(at) == len(answers) else str(answer)
            for i, answer in enumerate(answers)
            if answer != NO_ANSWER
        ]
        yield _joined(inputs, MAX_TOKENS, " "), _joined(said, MAX_ANSWERS, ", ")


def _joined(items: Sequence[object], most: int, between: str) -> str:
    more = [f"… {len(items) - most:,} more"] if len(items) > most else []
    return between.join([*map(str, items[:most]), *more])
