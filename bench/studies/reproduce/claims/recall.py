"""Based's claim about the recall of a state of fixed size. Trains models."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from bench.core.comparison import LEVEL, compare, holm
from bench.core.seed_runs import runs_from
from bench.publishing.charts.plain import Curves
from bench.studies.rates.tuned import Arm
from bench.studies.reproduce.claims.registry import Lab, register_claim, row
from bench.studies.reproduce.claims.samples import judged_arm, row_over, trained_row
from bench.studies.reproduce.stored import Finding
from bench.studies.reproduce.verdicts import PaperVerdict, why_no_verdict


@register_claim("based-recall-grows-with-state")
def recall_grows_with_state(
    lab: Lab, *, entry: str, num_heads: list[int], settings: dict[str, Any], seeds: list[int]
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
    for heads in num_heads:
        given = settings | {"num_heads": heads}
        trained = lab.tuned({entry: row(entry)}, "recall_causal", given, seeds)
        arms[channels * channels // heads] = trained[entry]
    sizes = sorted(arms)
    found = {size: arms[size].scores for size in sizes}
    rows = [trained_row(f"{size:,} numbers of state a layer", arms[size]) for size in sizes]
    numbers = ", ".join(f"{100 * r.value:.0f} % at {s:,}" for r, s in zip(rows, sizes, strict=True))
    words = f"recall is {numbers} numbers of state a layer ({entry}, {_task(settings)})"
    doubt = why_no_verdict([judged_arm(f"{size:,}", arms[size]) for size in sizes])
    if doubt is None:
        steps = [*itertools.pairwise(sizes), (sizes[0], sizes[-1])]
        verdict, more = _grows(steps, _signs(arms, steps, lab.level), len(seeds))
        if verdict is PaperVerdict.HOLDS_WHERE:
            widths = f"{channels // max(num_heads)} to {channels // min(num_heads)}"
            words = f"heads get wider with the state, from {widths} channels: {words}"
    else:
        verdict, more = doubt
    lines = {entry: [[size, sum(own) / len(own)] for size, own in found.items()]}
    return Finding(
        verdict=verdict,
        words=f"{words}; {more}" if more else words,
        rows=tuple(rows),
        unit="share of right answers",
        curves=Curves(
            title="Recall against the size of the state",
            x="numbers of state a layer",
            y="share of right answers",
            lines=lines,
        ),
    )


def _signs(arms: Mapping[int, Arm], steps: Sequence[tuple[int, int]], level: float) -> list[float]:
    """A number per step: above 0 if the larger state recalls more, below if less, 0 if undecided.

    At `LEVEL`, the 95 % interval of the differences by seed decides each step. Below it, at one of
    several looks, all steps are tested together after Holm.

    Args:
        arms: by the size of the state.
        steps: two sizes each, the smaller one first.
        level: significance level of all differences together.
    """
    if level >= LEVEL:
        rows = [row_over("", gaps(arms[low].scores, arms[high].scores)) for low, high in steps]
        return [max(r.low or 0.0, 0.0) + min(r.high or 0.0, 0.0) for r in rows]
    runs = {size: runs_from(arm.runs) for size, arm in arms.items()}
    found = [each for low, high in steps if (each := compare(runs[high], runs[low]))]
    told = holm([each.p_value for each in found], level)
    return [is_told * (each.ahead - 0.5) for is_told, each in zip(told, found, strict=True)]


def _grows(
    steps: Sequence[tuple[int, int]], signs: Sequence[float], num_seeds: int
) -> tuple[PaperVerdict, str]:
    """The verdict from steps between adjacent sizes and, last, from the smallest to the largest.

    Args:
        steps: two sizes each, the smaller one first.
        signs: of each step, as `_signs` gives them.
        num_seeds: for the words.
    """
    names = [f"{low:,} and {high:,}" for low, high in steps]
    falls = [name for name, sign in zip(names, signs, strict=True) if sign < 0]
    if falls:
        return PaperVerdict.DOES_NOT_HOLD, f"it falls between {', '.join(falls)}"
    if signs[-1] <= 0:
        return PaperVerdict.NOT_RESOLVABLE, f"{num_seeds} seeds do not tell them apart"
    flat = [name for name, sign in zip(names[:-1], signs[:-1], strict=True) if sign <= 0]
    return PaperVerdict.HOLDS_WHERE, (
        f"no difference is seen between {', '.join(flat)}" if flat else ""
    )


def _task(settings: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in settings.items())


def gaps(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """Second less first, seed by seed."""
    return [b - a for a, b in zip(first, second, strict=True)]
