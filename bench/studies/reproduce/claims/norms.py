"""NaLaFormer's claim about norms: attention gets sharper as the norm of a query grows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import mean

from bench.core.format import join_names
from bench.measuring.weights import NoWeights
from bench.publishing.charts.plain import Curves
from bench.studies.diagnostics.look import norm_correlation, sweep_of_norms
from bench.studies.diagnostics.samples import Size, normal, with_spread_norms
from bench.studies.reproduce.claims.registry import Lab, register_claim
from bench.studies.reproduce.claims.samples import by_name, core_of, falls, gaps, row_over
from bench.studies.reproduce.findings import Finding
from bench.studies.reproduce.verdicts import PaperVerdict

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
    for row in lab.steps(rows, "mechanism"):
        try:
            sweeps[row] = by_name(_sweep(row, norms, seed) for seed in range(num_seeds))
        except NoWeights as error:
            if row == of:
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
