"""Claims about recall, by DeltaNet and Based. Trains models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from statistics import mean
from typing import Any

from bench.core.comparison import LEVEL, Difference, compare, signs
from bench.core.grouping import grouped
from bench.core.seed_runs import runs_from
from bench.publishing.charts.plain import Curves
from bench.studies.rates.tuned import Arm
from bench.studies.reproduce.claims.registry import ARMS, Lab, register_claim, row
from bench.studies.reproduce.claims.samples import in_points, trained_row, why_no_verdict
from bench.studies.reproduce.findings import SHARE, Finding, FindingRow
from bench.studies.reproduce.verdicts import PaperVerdict

ADDITIVE = "gated_deltanet_additive"
"""Gated DeltaNet's gates, keys and scale around an additive state; see `reproduce.arms`."""


@dataclass(frozen=True, kw_only=True)
class Gap:
    """How far a delta rule is ahead of a decay at one number of pairs.

    Attributes:
        pairs: number of pairs in an example.
        delta, decay: the two arms.
        difference: between the two, seed by seed.
        beyond: the same with the margin taken off.
    """

    pairs: int
    delta: str
    decay: str
    difference: Difference
    beyond: Difference


@register_claim("deltanet-recalls-where-a-decay-does-not")
def delta_rule_recalls(
    lab: Lab,
    *,
    delta: list[str],
    decay: list[str],
    num_pairs: list[int],
    settings: dict[str, Any],
    seeds: Sequence[int],
    margin: float,
) -> Finding:
    """Train delta rules and decays on recall with more and more pairs, each at its own rate.

    All arms have the same model around them, with the norm over each head's output. Among the
    decays, `ADDITIVE` differs from Gated DeltaNet in the delta rule alone.

    Args:
        lab: trains.
        delta: entries with a delta rule.
        decay: entries whose state decays.
        num_pairs: numbers of pairs in an example of the task recall_causal.
        settings: of the task, beside the pairs.
        seeds: of each run.
        margin: share of right answers by which a decay must fall behind to count as not recalling.
    """
    rows: list[FindingRow] = []
    gaps: list[Gap] = []
    arms: list[Arm] = []
    names = [*delta, *decay]
    chosen = {name: {"mechanism": ADDITIVE} if name == ADDITIVE else row(name) for name in names}
    for pairs in num_pairs:
        given = settings | {"num_pairs": pairs}
        trained = lab.tuned(chosen, "recall_causal", given, seeds, plugins=ARMS)
        arms += [replace(trained[name], name=f"{name} with {pairs} pairs") for name in names]
        rows += [trained_row(f"{name}, {pairs} pairs", trained[name]) for name in names]
        for one, other in product(delta, decay):
            first, second = runs_from(trained[one].runs), runs_from(trained[other].runs)
            less = {seed: score - margin for seed, score in first.known.items()}
            difference = compare(first, second)
            beyond = compare(replace(first, scores=less, right={}), second)
            assert difference is not None and beyond is not None  # two seeds or more
            gaps.append(
                Gap(pairs=pairs, delta=one, decay=other, difference=difference, beyond=beyond)
            )
    verdict, words = why_no_verdict(arms) or judged(gaps, margin, lab.level)
    told = "; ".join(
        f"{gap.delta} less {gap.decay} with {gap.pairs} pairs {in_points(gap.difference)}"
        for gap in gaps
    )
    return Finding(
        verdict=verdict,
        words=f"{words}: {told}",
        rows=tuple(rows),
        unit=SHARE,
    )


def judged(gaps: Sequence[Gap], margin: float, level: float = LEVEL) -> tuple[PaperVerdict, str]:
    """The verdict on all gaps together.

    It holds where every delta rule is ahead of every decay by more than the margin, and does not
    where one decay lies within the margin of every delta rule at every number of pairs, after Holm
    over all gaps.

    Args:
        gaps: of each delta rule and decay at each number of pairs.
        margin: the margin of `Gap.beyond`, a share of right answers.
        level: significance level of all gaps together.
    """
    told = [*zip(gaps, signs([gap.beyond for gap in gaps], level), strict=True)]
    far, near = ([gap for gap, sign in told if sign == wanted] for wanted in (1, -1))
    by_pairs = grouped(gaps, lambda gap: gap.pairs)
    holding = [pairs for pairs, own in by_pairs.items() if all(gap in far for gap in own)]
    near_all = [
        {
            decay
            for decay, some in grouped(own, lambda gap: gap.decay).items()
            if all(gap in near for gap in some)
        }
        for own in by_pairs.values()
    ]
    points = f"{100 * margin:g} points"
    if len(holding) == len(by_pairs):
        return PaperVerdict.HOLDS, f"every delta rule is ahead of every decay by more than {points}"
    if holding:
        words = f"with {' and '.join(map(str, holding))} pairs every decay is {points} behind"
        return PaperVerdict.HOLDS_WHERE, words
    if set.intersection(*near_all):
        at = " and ".join(map(str, by_pairs))
        words = f"with {at} pairs a decay comes within {points} of every delta rule"
        return PaperVerdict.DOES_NOT_HOLD, words
    if all(near_all):
        words = f"no decay comes within {points} of every delta rule at every number of pairs"
        return PaperVerdict.NOT_RESOLVABLE, words
    return PaperVerdict.NOT_RESOLVABLE, "the seeds do not tell"


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
