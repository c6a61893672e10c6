"""Sentences about what a state of fixed size recalls: Based's and DeltaNet's. They train."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from bench.publish.charts.plain import Curves
from bench.reproduce.claims.registry import Lab, register_claim, row
from bench.reproduce.claims.samples import row_over
from bench.reproduce.stored import Finding, Row
from bench.reproduce.verdicts import Verdict


@register_claim("based-recall-grows-with-state")
def recall_grows_with_state(
    lab: Lab, *, entry: str, num_heads: list[int], settings: dict[str, Any], seeds: list[int]
) -> Finding:
    """Train one mechanism with fewer and wider heads, whose states are larger.

    A linear attention's state holds D^2 numbers a head, so H heads of C / H channels hold C^2 / H.

    Args:
        lab: trains.
        entry: a linear attention of conf/attention with as many features as channels.
        num_heads: falling, so that the state grows.
        settings: of the task recall_causal, beside the heads.
        seeds: of each run.
    """
    channels = int(settings["embed_dim"])
    found: dict[int, list[float]] = {}
    for heads in num_heads:
        scores = lab.scores(
            {entry: row(entry)}, "recall_causal", settings | {"num_heads": heads}, seeds
        )
        found[channels * channels // heads] = scores[entry]
    sizes = sorted(found)
    rows = [row_over(f"{size:,} numbers of state a layer", found[size], most=1) for size in sizes]
    steps = [
        row_over("", [b - a for a, b in zip(found[low], found[high], strict=True)])
        for low, high in itertools.pairwise(sizes)
    ]
    whole = row_over("", [b - a for a, b in zip(found[sizes[0]], found[sizes[-1]], strict=True)])
    lines = {entry: [[size, sum(found[size]) / len(seeds)] for size in sizes]}
    words = ", ".join(f"{100 * r.value:.0f} % at {s:,}" for r, s in zip(rows, sizes, strict=True))
    falls = any(step.high is not None and step.high < 0 for step in steps)
    doubt = ""
    if whole.low is not None and whole.low > 0 and not falls:
        verdict = Verdict.HOLDS
        flat = [
            f"{low:,} and {high:,}"
            for step, (low, high) in zip(steps, itertools.pairwise(sizes), strict=True)
            if step.low is None or step.low <= 0
        ]
        if flat:
            verdict = Verdict.HOLDS_WHERE
            doubt = f"; no difference is seen between {', '.join(flat)}"
    elif falls or (whole.high is not None and whole.high < 0):
        verdict = Verdict.DOES_NOT_HOLD
    else:
        verdict = Verdict.NOT_RESOLVABLE
        doubt = f"; {len(seeds)} seeds do not tell them apart"
    return Finding(
        verdict=verdict,
        words=f"recall is {words} numbers of state a layer ({entry}, {_task(settings)}){doubt}",
        rows=tuple(rows),
        unit="share of right answers",
        curves=Curves(
            title="Recall against the size of the state",
            x="numbers of state a layer",
            y="share of right answers",
            lines=lines,
        ),
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
) -> Finding:
    """Train delta rules and decays on recall with more and more pairs, each at its own rate.

    Among the decays stands `gated_deltanet_additive`: gates, keys and scale of Gated DeltaNet, with
    the delta rule left out.

    Args:
        lab: trains.
        delta: entries with a delta rule.
        decay: entries whose state decays.
        num_pairs: of the task recall_causal.
        settings: of the task, beside the pairs.
        seeds: of each run.
    """
    rows: list[Row] = []
    found: dict[str, Difference] = {}
    doubts: list[str] = []
    chosen = {name: ARMS[name] if name in ARMS else row(name) for name in (*delta, *decay)}
    for pairs in num_pairs:
        given = settings | {"num_pairs": pairs}
        arms = lab.tuned(chosen, "recall_causal", given, seeds, plugins=(ARMS_MODULE,))
        rows += [row_of_arm(f"{name}, {pairs} pairs", arms[name]) for name in chosen]
        doubts += [f"{name} with {pairs} pairs {w}" for name in chosen if (w := doubt(arms[name]))]
        for one, other in itertools.product(delta, decay):
            label = f"{one} less {other} with {pairs} pairs"
            found[label] = difference(arms[one], arms[other])
    return judged_differences(found, rows, doubts, seeds)


def _task(settings: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in settings.items())


def gaps(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """Differences seed by seed."""
    return [b - a for a, b in zip(first, second, strict=True)]
