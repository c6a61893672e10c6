"""NaLaFormer's two rankings, in one small backbone: its ablation; FLatten, PolaFormer, NaLa."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import stdev
from typing import Any

from bench.core.comparison import LEVEL, Runs, SeedsNeeded, compare, signs
from bench.core.seed_runs import runs_from
from bench.studies.rates.tuned import Arm
from bench.studies.reproduce.claims.registry import ARMS, Lab, register_claim, row
from bench.studies.reproduce.claims.samples import (
    difference_row,
    gaps,
    in_points,
    trained_row,
    why_no_verdict,
)
from bench.studies.reproduce.findings import Finding
from bench.studies.reproduce.verdicts import PaperVerdict, seeds_beside, without_spread

_CONSTANT = {"lam": 3e-5, "tau": 1e5}
"""A power of lam (tau + tanh ||q||) = 3, whatever the norm."""


@register_claim("nalaformer-ablation")
def ablation(
    lab: Lab, *, task: str, settings: dict[str, Any], seeds: Sequence[int], claimed: list[float]
) -> Finding:
    """Add to ReLU with a constant power first cosine inhibition, then a norm-aware power."""
    rows = {
        "relu_power": {"mechanism": "relu_power", "power": 3.0},
        "with_cosine": row("nala_cosine", alpha=1.0, **_CONSTANT),
        "with_norm": row("nala_cosine", alpha=1.0),
    }
    return _judged(lab.tuned(rows, task, settings, seeds, plugins=ARMS), claimed, task, lab.level)


@register_claim("nalaformer-order")
def order(
    lab: Lab,
    *,
    rows: list[str],
    task: str,
    settings: dict[str, Any],
    seeds: Sequence[int],
    claimed: list[float],
) -> Finding:
    """Train rows such as FLatten, PolaFormer and NaLa in one backbone, and test their order."""
    arms = lab.tuned({name: row(name) for name in rows}, task, settings, seeds)
    return _judged(arms, claimed, task, lab.level)


def _judged(arms: Mapping[str, Arm], claimed: Sequence[float], task: str, level: float) -> Finding:
    """The order of arms, each at its own rate; no verdict where one is untuned or stuck."""
    runs = {name: runs_from(arm.runs) for name, arm in arms.items()}
    found = ordered(runs, claimed, task, level)
    rows = (trained_row(f"{name}, %", arm, scale=100) for name, arm in arms.items())
    found = replace(found, rows=(*rows, *found.rows))
    if doubt := why_no_verdict([*arms.values()]):
        verdict, words = doubt
        found = replace(found, verdict=verdict, words=f"{words}: {found.words}")
    return found


def ordered(
    runs: Mapping[str, Runs],
    claimed: Sequence[float],
    task: str,
    level: float = LEVEL,
) -> Finding:
    """Whether scores rise from each name to the next, by their differences seed by seed.

    Errors of these are over seeds and over test examples, which another test set would change.

    The claim is about all the differences, so they are tested together after Holm: the order holds
    if all rise, and does not if any falls.

    Args:
        runs: by name in the order that is claimed, under the same two seeds or more.
        claimed: published differences from each name to the next, in points.
        task: for the words.
        level: of all differences together.
    """
    steps = {f"{b} less {a}": compare(runs[b], runs[a]) for a, b in pairwise(runs)}
    found = {name: step for name, step in steps.items() if step is not None}  # two seeds or more
    verdicts = (PaperVerdict.NOT_RESOLVABLE, PaperVerdict.HOLDS, PaperVerdict.DOES_NOT_HOLD)
    verdict = verdicts[min(signs([*found.values()], level))]
    needs = [
        _seeds_needed(points / 100, runs[a], runs[b])
        for (a, b), points in zip(pairwise(runs), claimed, strict=True)
    ]
    known = [need for need in needs if need is not None]
    differences = " and ".join(f"{points:g}" for points in claimed)
    to_tell = f"the published differences of {differences} points from 0"
    if len(known) == len(needs):
        most = max(known, key=lambda need: need.number)
        needed = f"To tell {to_tell} would take {most}"
    else:
        needed = f"No number of seeds would tell {to_tell}, on these test examples"
    words = (
        f"on {task} with {len(next(iter(runs.values())).scores)} seeds, "
        f"{'; '.join(f'{name} {in_points(step)}' for name, step in found.items())}. {needed}"
    )
    rows = (difference_row(f"{name}, points", step, 100) for name, step in found.items())
    return Finding(verdict=verdict, words=words, rows=tuple(rows), unit="score or difference")


def _seeds_needed(difference: float, first: Runs, second: Runs) -> SeedsNeeded | None:
    """Number of seeds that tell a difference of two rows from 0; None if none would."""
    own = gaps([*first.known.values()], [*second.known.values()])
    found = compare(without_spread(second), without_spread(first))
    over_examples = (found.high - found.low) / 2 if found else 0.0
    return seeds_beside(over_examples, difference, stdev(own), len(own))
