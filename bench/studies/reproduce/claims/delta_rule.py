"""DeltaNet's claim: a delta rule recalls where a decay does not. Trains models."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.core.comparison import LEVEL, Difference, compare, holm
from bench.core.seed_runs import runs_from
from bench.studies.rates.tuned import Arm
from bench.studies.reproduce.claims.registry import Lab, register_claim, row
from bench.studies.reproduce.claims.samples import judged_arm, trained_row
from bench.studies.reproduce.stored import Finding, FindingRow
from bench.studies.reproduce.verdicts import PaperVerdict, why_no_verdict

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

    @property
    def words(self) -> str:
        """As ``deltanet less gla with 4 pairs +0.3 points (-0.1 to +0.7)``."""
        mean, low, high = (
            100 * x
            for x in (self.difference.mean or 0.0, self.difference.low, self.difference.high)
        )
        return (
            f"{self.delta} less {self.decay} with {self.pairs} pairs "
            f"{mean:+.1f} points ({low:+.1f} to {high:+.1f})"
        )


@register_claim("deltanet-recalls-where-a-decay-does-not")
def delta_rule_recalls(
    lab: Lab,
    *,
    delta: list[str],
    decay: list[str],
    num_pairs: list[int],
    settings: dict[str, Any],
    seeds: list[int],
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
    chosen = {
        name: {"mechanism": ADDITIVE} if name == ADDITIVE else row(name)
        for name in (*delta, *decay)
    }
    for pairs in num_pairs:
        given = settings | {"num_pairs": pairs}
        plugins = ("bench.studies.reproduce.arms",)
        trained = lab.tuned(chosen, "recall_causal", given, seeds, plugins=plugins)
        named = {name: replace(trained[name], name=f"{name} with {pairs} pairs") for name in chosen}
        arms += named.values()
        rows += [trained_row(f"{name}, {pairs} pairs", named[name]) for name in chosen]
        gaps += [
            _gap(pairs, one, other, trained, margin)
            for one, other in itertools.product(delta, decay)
        ]
    doubt = why_no_verdict([judged_arm(arm.name, arm) for arm in arms])
    verdict, words = doubt or judged(gaps, margin, lab.level)
    told = "; ".join(gap.words for gap in gaps)
    return Finding(
        verdict=verdict,
        words=f"{words}: {told}",
        rows=tuple(rows),
        unit="share of right answers",
    )


def judged(gaps: Sequence[Gap], margin: float, level: float = LEVEL) -> tuple[PaperVerdict, str]:
    """The verdict on all gaps together.

    It holds where every delta rule is ahead of every decay by more than the margin, after Holm over
    all gaps; it does not hold where some decay lies within the margin of every delta rule.

    Args:
        gaps: of each delta rule and decay at each number of pairs.
        margin: the margin of `Gap.beyond`, a share of right answers.
        level: significance level of all gaps together. Below `LEVEL`, at one of several looks, a
            decay is within the margin only after Holm; at `LEVEL`, its 95 % interval decides.
    """
    points = f"{100 * margin:g} points"
    is_told = holm([gap.beyond.p_value for gap in gaps], level)
    told = {id(gap) for gap, stands in zip(gaps, is_told, strict=True) if stands}
    far = {id(gap) for gap in gaps if id(gap) in told and gap.beyond.is_ahead}
    is_look = level < LEVEL
    near = {id(g) for g in gaps if g.beyond.is_behind and (id(g) in told or not is_look)}
    by_pairs = {gap.pairs: [g for g in gaps if g.pairs == gap.pairs] for gap in gaps}
    holding = [pairs for pairs, own in by_pairs.items() if all(id(gap) in far for gap in own)]
    refuted = [pairs for pairs, own in by_pairs.items() if _keeps_up(own, near)]
    if len(holding) == len(by_pairs):
        return PaperVerdict.HOLDS, f"every delta rule is ahead of every decay by more than {points}"
    if holding:
        return (
            PaperVerdict.HOLDS_WHERE,
            f"with {_and(holding)} pairs every decay is {points} behind",
        )
    if len(refuted) == len(by_pairs):
        words = f"with {_and(refuted)} pairs a decay comes within {points} of every delta rule"
        return PaperVerdict.DOES_NOT_HOLD, words
    return PaperVerdict.NOT_RESOLVABLE, "the seeds do not tell"


def _keeps_up(gaps: Sequence[Gap], near: Collection[int]) -> bool:
    """Whether one decay lies within the margin of every delta rule.

    Args:
        gaps: all gaps at one number of pairs.
        near: ids of gaps whose decay lies within the margin.
    """
    decays = {gap.decay for gap in gaps}
    return any(all(id(g) in near for g in gaps if g.decay == decay) for decay in decays)


def _gap(pairs: int, delta: str, decay: str, arms: Mapping[str, Arm], margin: float) -> Gap:
    one, other = runs_from(arms[delta].runs), runs_from(arms[decay].runs)
    less = {seed: None if s is None else s - margin for seed, s in one.scores.items()}
    difference = compare(one, other)
    beyond = compare(replace(one, scores=less, right={}), other)
    assert difference is not None and beyond is not None  # two seeds or more
    return Gap(pairs=pairs, delta=delta, decay=decay, difference=difference, beyond=beyond)


def _and(numbers: Sequence[int]) -> str:
    return " and ".join(map(str, numbers))
