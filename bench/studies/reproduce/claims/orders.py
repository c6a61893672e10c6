"""NaLaFormer's two rankings, in one small backbone: its ablation; FLatten, PolaFormer, NaLa."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import stdev
from typing import Any

from bench.core.comparison import LEVEL, Difference, Runs, compare, holm, seeds_by_pilot
from bench.studies.rates.tuned import Arm
from bench.studies.reproduce.claims.recall import gaps
from bench.studies.reproduce.claims.registry import Lab, register_claim, row
from bench.studies.reproduce.claims.samples import judged_arm, row_over, trained_row
from bench.studies.reproduce.stored import Finding, FindingRow
from bench.studies.reproduce.verdicts import PaperVerdict, why_no_verdict

_CONSTANT = {"lam": 3e-5, "tau": 1e5}
"""A power of lam (tau + tanh ||q||) = 3, whatever the norm."""


@register_claim("nalaformer-ablation")
def ablation(
    lab: Lab, *, task: str, settings: dict[str, Any], seeds: list[int], claimed: list[float]
) -> Finding:
    """Add to ReLU with a constant power first cosine inhibition, then a norm-aware power."""
    rows = {
        "relu_power": {"mechanism": "relu_power", "power": 3.0},
        "with_cosine": row("nala_cosine", alpha=1.0, **_CONSTANT),
        "with_norm": row("nala_cosine", alpha=1.0),
    }
    arms = lab.tuned(rows, task, settings, seeds, plugins=("bench.studies.reproduce.arms",))
    return _judged(arms, claimed, task, lab.level)


@register_claim("nalaformer-order")
def order(
    lab: Lab,
    *,
    rows: list[str],
    task: str,
    settings: dict[str, Any],
    seeds: list[int],
    claimed: list[float],
) -> Finding:
    """Train rows such as FLatten, PolaFormer and NaLa in one backbone, and test their order."""
    arms = lab.tuned({name: row(name) for name in rows}, task, settings, seeds)
    return _judged(arms, claimed, task, lab.level)


def _judged(arms: Mapping[str, Arm], claimed: Sequence[float], task: str, level: float) -> Finding:
    """The order of arms, each at its own rate; no verdict where one is untuned or stuck."""
    found = ordered({name: arm.scores for name, arm in arms.items()}, claimed, task, level)
    trained = [trained_row(name, arm) for name, arm in arms.items()]
    rows = [
        replace(own, value=one.value, low=one.low, high=one.high, name=one.name)
        for own, one in zip(trained, found.rows, strict=False)
    ]
    found = replace(found, rows=(*rows, *found.rows[len(rows) :]))
    doubt = why_no_verdict([judged_arm(name, arm) for name, arm in arms.items()])
    if doubt is None:
        return found
    verdict, words = doubt
    return replace(found, verdict=verdict, words=f"{words}: {found.words}")


def ordered(
    scores: Mapping[str, Sequence[float]],
    claimed: Sequence[float],
    task: str,
    level: float = LEVEL,
) -> Finding:
    """Whether scores rise from each name to the next, by their differences seed by seed.

    The claim is about all the differences, so they are tested together after Holm: the order holds
    if all rise, and does not if any falls.

    Args:
        scores: by name in the order that is claimed, under the same two seeds or more.
        claimed: published differences from each name to the next, in points.
        task: for the words.
        level: of all differences together.
    """
    names = list(scores)
    rows = [row_over(f"{name}, %", [100 * s for s in scores[name]], most=100) for name in names]
    found = [_rise(scores[first], scores[second]) for first, second in pairwise(names)]
    stands = holm([each.p_value for each in found], level)
    told = []
    for (first, second), each in zip(pairwise(names), found, strict=True):
        value, low, high = (100 * x for x in (each.mean or 0.0, each.low, each.high))
        rows.append(
            FindingRow(name=f"{second} less {first}, points", value=value, low=low, high=high)
        )
        told.append(f"{second} less {first} {value:+.1f} points ({low:+.1f} to {high:+.1f})")
    if all(own and each.ahead > 0.5 for own, each in zip(stands, found, strict=True)):
        verdict = PaperVerdict.HOLDS
    elif any(own and each.ahead < 0.5 for own, each in zip(stands, found, strict=True)):
        verdict = PaperVerdict.DOES_NOT_HOLD
    else:
        verdict = PaperVerdict.NOT_RESOLVABLE
    claims = " and ".join(f"{points:g}" for points in claimed)
    words = (
        f"on {task} with {len(scores[names[0]])} seeds, {'; '.join(told)}. To tell the published "
        f"differences of {claims} points from 0 would take {_needed(scores, claimed)}"
    )
    return Finding(verdict=verdict, words=words, rows=tuple(rows), unit="score or difference")


def _rise(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Second less first, seed by seed."""
    one, other = (Runs(scores=dict(enumerate(own))) for own in (first, second))
    found = compare(other, one)
    assert found is not None, "two seeds or more"
    return found


def _needed(scores: Mapping[str, Sequence[float]], claimed: Sequence[float]) -> str:
    """Seeds for the published difference that needs the most of them."""
    names = list(scores)
    needs = []
    for (first, second), points in zip(pairwise(names), claimed, strict=False):
        own = [100 * gap for gap in gaps(scores[first], scores[second])]
        needs.append(seeds_by_pilot(points, stdev(own), len(own)))
    known = [need for need in needs if need is not None]
    return str(max(known, key=lambda need: need.number)) if known else "no number of seeds"
