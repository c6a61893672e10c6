"""Based's claim about the recall of a state of fixed size. Trains models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import mean
from typing import Any

from bench.core.comparison import compare, signs
from bench.core.seed_runs import runs_from
from bench.publishing.charts.plain import Curves
from bench.studies.rates.tuned import Arm
from bench.studies.reproduce.claims.registry import Lab, register_claim, row
from bench.studies.reproduce.claims.samples import trained_row, why_no_verdict
from bench.studies.reproduce.findings import SHARE, Finding
from bench.studies.reproduce.verdicts import PaperVerdict


@register_claim("based-recall-grows-with-state")
def recall_grows_with_state(
    lab: Lab, *, entry: str, num_heads: list[int], settings: dict[str, Any], seeds: Sequence[int]
) -> Finding:
    """Train one mechanism with fewer and wider heads, whose states are larger.

    Each is trained at a rate of its own. A linear attention's state holds D^2 numbers a head, so
    H heads of C / H channels hold C^2 / H. The width of a head varies with the state, and may
    matter by itself: at most, the claim holds for this way of growing a state.

    Args:
        lab: trains.
        entry: a row of linear attention with as many features as channels.
        num_heads: falling, so that the state grows.
        settings: of the task recall_causal, beside the heads.
        seeds: of each run.
    """
    channels = int(settings["embed_dim"])
    arms: dict[int, Arm] = {}
    for heads in sorted(num_heads, reverse=True):
        given, size = settings | {"num_heads": heads}, channels * channels // heads
        (arm,) = lab.tuned({entry: row(entry)}, "recall_causal", given, seeds).values()
        arms[size] = replace(arm, name=f"{size:,}")
    sizes = list(arms)
    rows = [trained_row(f"{size:,} numbers of state a layer", arms[size]) for size in sizes]
    numbers = ", ".join(f"{100 * r.value:.0f} % at {s:,}" for r, s in zip(rows, sizes, strict=True))
    task = ", ".join(f"{key}={value}" for key, value in settings.items())
    words = f"recall is {numbers} numbers of state a layer ({entry}, {task})"
    doubt = why_no_verdict([*arms.values()])
    verdict, more = doubt or _grows(arms, lab.level)
    if verdict is PaperVerdict.HOLDS_WHERE:
        widths = f"{channels // max(num_heads)} to {channels // min(num_heads)}"
        words = f"heads get wider with the state, from {widths} channels: {words}"
    return Finding(
        verdict=verdict,
        words=f"{words}; {more}" if more else words,
        rows=tuple(rows),
        unit=SHARE,
        curves=Curves(
            title="Recall against the size of the state",
            x="numbers of state a layer",
            y="share of right answers",
            lines={entry: [[size, mean(arm.scores)] for size, arm in arms.items()]},
        ),
    )


def _grows(arms: Mapping[int, Arm], level: float) -> tuple[PaperVerdict, str]:
    """The verdict from steps between adjacent sizes and, last, from the smallest to the largest.

    Args:
        arms: by the size of the state, rising.
        level: significance level of all steps together.
    """
    sizes, runs = [*arms], {size: runs_from(arm.runs) for size, arm in arms.items()}
    steps = [*dict.fromkeys((*pairwise(sizes), (sizes[0], sizes[-1])))]
    told = signs([compare(runs[high], runs[low]) for low, high in steps], level)
    by_name = {f"{low:,} and {high:,}": sign for (low, high), sign in zip(steps, told, strict=True)}
    if down := [name for name, sign in by_name.items() if sign < 0]:
        return PaperVerdict.DOES_NOT_HOLD, f"it falls between {', '.join(down)}"
    if told[-1] == 0:
        num_seeds = len(arms[sizes[0]].seeds)
        return PaperVerdict.NOT_RESOLVABLE, f"{num_seeds} seeds do not tell them apart"
    flat = [name for name, sign in by_name.items() if sign == 0]
    words = f"no difference is seen between {', '.join(flat)}" if flat else ""
    return PaperVerdict.HOLDS_WHERE, words
