"""NaLaFormer's claim about norms: attention gets sharper as the norm of a query grows."""

from __future__ import annotations

from collections.abc import Sequence

from bench.core.format import join_names
from bench.measuring.weights import NoWeights
from bench.publishing.charts.plain import Curves
from bench.studies.diagnostics.norms import norm_correlation, sweep_of_norms
from bench.studies.diagnostics.samples import Size, normal, with_spread_norms
from bench.studies.reproduce.claims.registry import Lab, register_claim
from bench.studies.reproduce.claims.samples import core_of, row_over
from bench.studies.reproduce.stored import Finding, FindingRow
from bench.studies.reproduce.verdicts import PaperVerdict

_FALLS = -0.005
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
        norms: of the sweep, rising.
        spread_norms: medians around which tokens' norms spread, by a log-normal factor of 0.5.
        num_seeds: of directions and keys.
        against: rows in which, by the claim, entropy does not fall.
    """
    curves = {}
    for row in lab.steps(rows, "mechanism"):
        try:
            curves[row] = _sweep(row, norms, num_seeds)
        except NoWeights as error:
            if row == of:
                raise
            lab.session.say(f"Left out: {error}")
    rows = list(curves)
    numbers = [
        _change(row, curves[row], norms, (low, high)) for row in rows for low, high in _spans(norms)
    ]
    for row in rows:
        numbers += [
            row_over(
                f"{row}, rank correlation over tokens, norms about {norm:g}",
                _correlations(row, norm, num_seeds),
            )
            for norm in spread_norms
        ]
    reach = _reach(curves[of], norms)
    verdict, words = _verdict(of, reach, norms, numbers)
    if also := [row for row in against if row in curves and _falls(row, numbers)]:
        words += f"; entropy falls in {join_names(also)} too"
        verdict = PaperVerdict.HOLDS_WHERE if verdict is PaperVerdict.HOLDS else verdict
    lines = {
        row: [[norm, sum(found[i] for found in own) / num_seeds] for i, norm in enumerate(norms)]
        for row, own in curves.items()
    }
    return Finding(
        verdict=verdict,
        words=words,
        rows=tuple(numbers),
        unit="change of H / ln N, or rank correlation",
        curves=Curves(
            title="Entropy of attention against the query norm, directions held fixed",
            x="norm of the queries (head_dim 16)",
            y="entropy / ln N",
            lines=lines,
        ),
    )


def _sweep(row: str, norms: Sequence[float], num_seeds: int) -> list[list[float]]:
    """Mean relative entropy at each norm, by seed."""
    size = Size()
    found = []
    for seed in range(num_seeds):
        q, k = normal(size, seed, 0), normal(size, seed, 1)
        found.append(sweep_of_norms(core_of(row, size, seed), q, k, norms))
    return found


def _spans(norms: Sequence[float]) -> list[tuple[float, float]]:
    """From the least norm to 2, and from 2 to 8, the norms of queries in trained models."""
    return [(norms[0], 2.0), (2.0, 8.0)]


def _change(
    row: str, curves: Sequence[Sequence[float]], norms: Sequence[float], span: tuple[float, float]
) -> FindingRow:
    low, high = (list(norms).index(norm) for norm in span)
    name = f"{row}, norm {span[0]:g} to {span[1]:g}"
    return row_over(name, [curve[high] - curve[low] for curve in curves])


def _correlations(row: str, norm: float, num_seeds: int) -> list[float]:
    """Spearman's rho of entropy and norm over the tokens of each seed, mean over heads."""
    size = Size()
    found = []
    for seed in range(num_seeds):
        q, k = normal(size, seed, 0), normal(size, seed, 1)
        q = with_spread_norms(q, norm, seed)
        found.append(norm_correlation(core_of(row, size, seed), q, k))
    return found


def _falls(row: str, numbers: Sequence[FindingRow]) -> bool:
    """Whether entropy falls over one of the spans, by the 95 % interval."""
    own = [number.high for number in numbers if number.name.startswith(f"{row}, norm")]
    return any(high is not None and high < _FALLS for high in own)


def _reach(curves: Sequence[Sequence[float]], norms: Sequence[float]) -> float | None:
    """The norm up to which entropy falls at every step, by 95 % intervals; None if at no step."""
    reach = None
    for i in range(len(norms) - 1):
        step = row_over("", [curve[i + 1] - curve[i] for curve in curves])
        if step.high is None or step.high >= _FALLS:
            break
        reach = norms[i + 1]
    return reach


def _verdict(
    of: str, reach: float | None, norms: Sequence[float], numbers: Sequence[FindingRow]
) -> tuple[PaperVerdict, str]:
    below, above = (row for row in numbers if row.name.startswith(f"{of}, norm"))
    changes = (
        f"entropy of {of} changes by {below.value:+.3f} of ln N from norm {norms[0]:g} to 2, by "
        f"{above.value:+.4f} from there to 8"
    )
    if reach is None:
        return PaperVerdict.DOES_NOT_HOLD, changes
    if reach == norms[-1]:
        return PaperVerdict.HOLDS, changes
    return PaperVerdict.HOLDS_WHERE, f"norms are below {reach:g}: {changes}"
