"""Conclusions over several lengths, and about pairs of rows, in the page's form."""

from __future__ import annotations

import numpy as np

from bench.publishing.growth import crossovers, exponent_words, scalings
from bench.publishing.leaderboard import Leaderboard, Setting
from bench.publishing.metrics.crossover import crossover_words, flops_words
from bench.publishing.metrics.ranks import Ranks

MAX_RANKED = 40
"""Largest number of rows of which each pair's probability is kept; more would fill the page."""


def grown(
    board: Leaderboard,
) -> tuple[dict[tuple[Setting, str], dict[str, str]], dict[Setting, list[dict[str, object]]]]:
    """Words of each row of a setting, and the crossovers that are marked on a setting's chart.

    The words say where a row overtakes its reference, in time and in FLOPs, and with which power of
    the number of tokens its time grows.
    """
    words: dict[tuple[Setting, str], dict[str, str]] = {}
    crossings: dict[Setting, list[dict[str, object]]] = {}
    for setting, of_setting in crossovers(board).items():
        for name, found in of_setting.items():
            said = crossover_words(found)
            words[setting, name] = {"crossover": said, "crossover_flops": flops_words(found)}
            if found.length is not None:
                crossing = {"name": name, "length": found.length, "words": said}
                crossings.setdefault(setting, []).append(crossing)
    for setting, own in scalings(board).items():
        for name, scaling in own.items():
            words.setdefault((setting, name), {})["growth"] = f"N^{exponent_words(scaling)}"
    return words, crossings


def ties(ranks: Ranks | None) -> list[list[str]]:
    """Groups of rows that cannot be told apart."""
    return [list(names) for names in ranks.groups if len(names) > 1] if ranks else []


def wins(ranks: Ranks | None) -> dict[str, list[object]] | None:
    """How likely each row is ahead of each later one, in percent; None with too few or many."""
    if ranks is None or not 1 < len(ranks.names) <= MAX_RANKED:
        return None
    behind = np.triu_indices(len(ranks.names), k=1)
    ahead = np.rint(100 * ranks.wins[behind]).astype(int).tolist()
    return {"names": [*ranks.names], "ahead": ahead}
