"""NaLaFormer's claims: entropy and norms, memory, and two rankings in one small backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import mean, stdev
from typing import Any

from bench.core.comparison import LEVEL, Runs, SeedsNeeded, compare, signs
from bench.core.format import join_names
from bench.core.seed_runs import runs_from
from bench.measuring.costs.estimate import peak_bytes_of
from bench.measuring.weights import NoWeights
from bench.publishing.charts.plain import Curves
from bench.studies.catalogue.costs import default_cell
from bench.studies.diagnostics.look import norm_correlation, sweep_of_norms
from bench.studies.diagnostics.samples import Size, normal, with_spread_norms
from bench.studies.rates.tuned import Arm
from bench.studies.reproduce.claims.registry import ARMS, Lab, register_claim, row
from bench.studies.reproduce.claims.samples import (
    by_name,
    core_of,
    difference_row,
    falls,
    gaps,
    holds_where,
    in_points,
    row_over,
    trained_row,
    why_no_verdict,
)
from bench.studies.reproduce.findings import Finding, FindingRow
from bench.studies.reproduce.runs import entry_of
from bench.studies.reproduce.verdicts import PaperVerdict, seeds_beside, without_spread

_FALL = 0.005
"""Smallest fall from one norm to the next, as a share of ln N; less counts as no change."""


@register_claim("nalaformer-entropy-follows-norm")
def entropy_follows_norm(
    lab: Lab,
    *,
    rows: list[str],
    of: str,
    norms: list[float],
    spread_norms: list[float],
    num_seeds: int,
    against: Sequence[str] = (),
) -> Finding:
    """Sweep the norm of queries at fixed directions; and correlate norm and entropy over tokens.

    The sweep isolates the norm: over the tokens of an input, norm and direction vary together.

    Args:
        lab: shows progress.
        rows: labels.
        of: the entry that the claim is about.
        norms: of the sweep, rising; 2 and 8 among them.
        spread_norms: medians around which tokens' norms spread, by a log-normal factor of 0.5.
        num_seeds: of directions and keys.
        against: rows in which, by the claim, entropy does not fall.
    """
    sweeps: dict[str, dict[float, list[float]]] = {}
    for name in lab.steps(rows, "mechanism"):
        try:
            sweeps[name] = by_name(_sweep(name, norms, seed) for seed in range(num_seeds))
        except NoWeights as error:
            if name == of:
                raise
            lab.session.say(f"Left out: {error}")
    # From the least norm to 2, and from 2 to 8, the norms of queries in trained models.
    spans = [(norms[0], 2.0), (2.0, 8.0)]
    changes = {
        (row, low): row_over(f"{row}, norm {low:g} to {high:g}", gaps(own[low], own[high]))
        for row, own in sweeps.items()
        for low, high in spans
    }
    correlations = [
        row_over(
            f"{row}, rank correlation over tokens, norms about {norm:g}",
            (_correlation(row, norm, seed) for seed in range(num_seeds)),
        )
        for row in sweeps
        for norm in spread_norms
    ]
    words = (
        f"entropy of {of} changes by {changes[of, norms[0]].value:+.3f} of ln N from norm "
        f"{norms[0]:g} to 2, by {changes[of, 2.0].value:+.4f} from there to 8"
    )
    reach = norms[0]  # entropy falls at every step up to this norm
    for low, high in pairwise(norms):
        if not falls(sweeps[of][low], sweeps[of][high], by=_FALL):
            break
        reach = high
    verdict = PaperVerdict.HOLDS
    if reach == norms[0]:
        verdict = PaperVerdict.DOES_NOT_HOLD
    elif reach < norms[-1]:
        verdict, words = PaperVerdict.HOLDS_WHERE, f"norms are below {reach:g}: {words}"
    also = [
        row
        for row in against
        if (own := sweeps.get(row)) and any(falls(own[a], own[b], by=_FALL) for a, b in spans)
    ]
    if also:
        words += f"; entropy falls in {join_names(also)} too"
        verdict = PaperVerdict.HOLDS_WHERE if verdict is PaperVerdict.HOLDS else verdict
    return Finding(
        verdict=verdict,
        words=words,
        rows=(*changes.values(), *correlations),
        unit="change of H / ln N, or rank correlation",
        curves=Curves(
            title="Entropy of attention against the query norm, directions held fixed",
            x="norm of the queries (head_dim 16)",
            y="entropy / ln N",
            lines={r: [[norm, mean(own[norm])] for norm in norms] for r, own in sweeps.items()},
        ),
    )


def _sweep(row: str, norms: Sequence[float], seed: int) -> dict[float, float]:
    """Mean relative entropy at each norm."""
    size = Size()
    q, k = normal(size, seed, 0), normal(size, seed, 1)
    found = sweep_of_norms(core_of(row, size, seed), q, k, norms)
    return dict(zip(norms, found, strict=True))


def _correlation(row: str, norm: float, seed: int) -> float:
    """Spearman's rho of entropy and norm over the tokens, mean over heads."""
    size = Size()
    q, k = with_spread_norms(normal(size, seed, 0), norm, seed), normal(size, seed, 1)
    return norm_correlation(core_of(row, size, seed), q, k)


@register_claim("nalaformer-memory-at-70k")
def memory_at_70k(
    lab: Lab, *, of: str, baselines: list[str], num_tokens: int, claimed: float
) -> Finding:
    """Compare the peak memory of a forward call, by a dry run on meta tensors: nothing is computed.

    Args:
        lab: shows progress.
        of: the entry that the sentence is about.
        baselines: entries that it may be compared with.
        num_tokens: of one sequence.
        claimed: the published change, as a share, such as -0.923.
    """
    own = _peak(of, num_tokens)
    rows = [FindingRow(name=f"{of}, GiB at {num_tokens:,} tokens", value=own / 2**30)]
    holds: list[str] = []
    fails: list[str] = []
    for name in lab.steps(baselines, "baseline"):
        change = own / _peak(name, num_tokens) - 1
        rows.append(FindingRow(name=f"change against {name}, %", value=100 * change))
        (holds if change <= claimed else fails).append(f"{name} ({100 * change:+.1f} %)")
    return Finding(
        verdict=holds_where(holds, fails),
        words=(
            f"the baseline is {' or '.join(holds) or 'none of these'}; not against "
            f"{', '.join(fails) or 'any'}. The abstract names none"
        ),
        rows=tuple(rows),
        unit="by a dry run: 1 sequence, 8 heads of 64, float32",
    )


def _peak(entry: str, num_tokens: int) -> int:
    settings = entry_of("attention", entry)
    cell = default_cell(settings.pop("mechanism"), num_tokens)
    found = peak_bytes_of(replace(cell, hyperparameters=cell.hyperparameters | settings))
    assert found, f"{entry} does not run on tensors without values"
    return found


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
