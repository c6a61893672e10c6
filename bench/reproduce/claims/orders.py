"""NaLaFormer's two orders, in one small backbone: its ablation, and FLatten, PolaFormer, NaLa."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import stdev
from typing import Any

from bench.reproduce.claims.recall import gaps
from bench.reproduce.claims.registry import Lab, register_claim, row
from bench.reproduce.claims.samples import row_over
from bench.reproduce.stored import Finding
from bench.reproduce.verdicts import Verdict, num_seeds_for

_CONSTANT = {"lam": 3e-5, "tau": 1e5}
"""A power of lam (tau + tanh ||q||) = 3, whatever the norm."""


@register_claim("nalaformer-ablation")
def ablation(
    lab: Lab, *, task: str, settings: dict[str, Any], seeds: list[int], claimed: list[float]
) -> Finding:
    """ReLU with a constant power, then with cosine inhibition, then with a norm-aware power."""
    rows = {
        "relu_power": {"mechanism": "relu_power", "power": 3.0},
        "with_cosine": row("nala_cosine", alpha=1.0, **_CONSTANT),
        "with_norm": row("nala_cosine", alpha=1.0),
    }
    scores = lab.scores(rows, task, settings, seeds, plugins=("bench.reproduce.arms",))
    return ordered(scores, claimed, task)


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
    """FLatten, PolaFormer and NaLa at the place of the attention."""
    scores = lab.scores({name: row(name) for name in rows}, task, settings, seeds)
    return ordered(scores, claimed, task)


def ordered(scores: Mapping[str, Sequence[float]], claimed: Sequence[float], task: str) -> Finding:
    """Whether scores rise from each name to the next, by their differences seed by seed.

    Args:
        scores: by name in the order that is claimed, under the same seeds.
        claimed: published differences from each name to the next, in points.
        task: for the words.
    """
    names = list(scores)
    rows = [row_over(f"{name}, %", [100 * s for s in scores[name]], most=100) for name in names]
    differences, needed = [], []
    for first, second, points in zip(names, names[1:], claimed, strict=False):
        own = [100 * gap for gap in gaps(scores[first], scores[second])]
        differences.append(row_over(f"{second} less {first}, points", own))
        needed.append(num_seeds_for(points, stdev(own)) or 0)
    rows += differences
    if all(d.low is not None and d.low > 0 for d in differences):
        verdict = Verdict.HOLDS
    elif any(d.high is not None and d.high < 0 for d in differences):
        verdict = Verdict.DOES_NOT_HOLD
    else:
        verdict = Verdict.NOT_RESOLVABLE
    told = "; ".join(
        f"{d.name.removesuffix(', points')} {d.value:+.1f} points ({d.low:+.1f} to {d.high:+.1f})"
        for d in differences
    )
    claims = " and ".join(f"{points:g}" for points in claimed)
    words = (
        f"on {task} with {len(scores[names[0]])} seeds, {told}. To tell the published differences "
        f"of {claims} points from 0 would take about {max(needed):,} seeds"
    )
    return Finding(verdict=verdict, words=words, rows=tuple(rows), unit="score or difference")
