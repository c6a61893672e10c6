"""Performer's claim: random features estimate softmax's kernel without bias, however few."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from attentions.maths.orthogonal import orthogonal_gaussian
from bench.studies.diagnostics.measures import mean_with_interval
from bench.studies.diagnostics.samples import Size, normal
from bench.studies.reproduce.claims.registry import Lab, register_claim
from bench.studies.reproduce.stored import Finding, FindingRow
from bench.studies.reproduce.verdicts import PaperVerdict


@register_claim("performer-unbiased")
def performer_unbiased(
    lab: Lab, *, num_features: list[int], norms: list[float], num_draws: int, num_groups: int
) -> Finding:
    """Bias of the kernel's estimate and of the weights that it gives, over many projections.

    The kernel exp(q . k / sqrt(D)) is estimated by positive features without the eps and the
    maximum that implementations add (Lemma 1). Weights are estimates over their sum, and a ratio of
    unbiased estimates is not unbiased.

    Args:
        lab: shows progress.
        num_features: numbers of features, below D ln D and at it.
        norms: of queries and keys.
        num_draws: number of random projections, over all groups.
        num_groups: number of groups of projections; the interval is over the means of groups.
    """
    size = Size(num_heads=1, num_tokens=32)
    rows: list[FindingRow] = []
    biased = []
    for norm, count in lab.steps([(n, f) for n in norms for f in num_features], "size"):
        kernel, ratio, error = _biases(size, norm, count, num_draws, num_groups)
        name = f"{count} features, norm {norm:g}"
        rows += [
            _row(f"{name}: bias of the kernel, % of it", 100 * kernel),
            _row(f"{name}: bias of the weights, total variation", ratio),
            FindingRow(name=f"{name}: error of one draw, % of the kernel", value=100 * error),
        ]
        low, high = rows[-3].low, rows[-3].high
        if low is not None and high is not None and not low <= 0 <= high:
            biased.append(name)
    head_dim = size.head_dim
    limit = math.floor(head_dim * math.log(head_dim))
    worst = max((row for row in rows if "weights" in row.name), key=lambda row: row.value)
    errors = [row for row in rows if "one draw" in row.name]
    words = (
        f"with {min(num_features)} to {max(num_features)} features (D ln D is "
        f"{limit}), every interval of its bias holds 0"
        if not biased
        else f"the kernel's bias has an interval without 0 at {', '.join(biased)}"
    )
    words += (
        f"; the weights, a ratio, are biased by up to {worst.value:.2f} in total variation "
        f"({worst.name.split(':')[0]}), and one draw is off by {errors[0].value:.0f} to "
        f"{max(row.value for row in errors):.0f} %"
    )
    # One interval of twenty may miss 0 by chance alone.
    is_unbiased = len(biased) <= 1 + len(errors) // 20
    verdict = PaperVerdict.HOLDS_WHERE if is_unbiased else PaperVerdict.DOES_NOT_HOLD
    prefix = "the kernel is meant and not the weights that it gives: " if is_unbiased else ""
    return Finding(verdict=verdict, words=prefix + words, rows=tuple(rows), unit="see the row")


def _biases(
    size: Size, norm: float, num_features: int, num_draws: int, num_groups: int
) -> tuple[Tensor, Tensor, float]:
    """Biases by group, (num_groups,) each, and the relative RMS error of the kernel in one draw.

    Bias is the mean relative error of the kernel, and the weights' total variation from softmax's.
    """
    q, k = (x[0, 0] / x[0, 0].norm(dim=-1, keepdim=True) * norm for x in _pair(size))
    scale = size.head_dim**-0.25
    exact = (q @ k.T * scale**2).exp()
    softmax = exact / exact.sum(dim=-1, keepdim=True)
    kernel_means, squares = [], 0.0
    per_group = num_draws // num_groups
    group_weights = []
    for group in range(num_groups):
        total, sums = torch.zeros_like(exact), torch.zeros_like(exact)
        for draw in range(per_group):
            rows = orthogonal_gaussian(
                num_features, size.head_dim, unit_scale=False, seed=group, draw=draw
            ).double()
            phi_q, phi_k = (_features(x * scale, rows) for x in (q, k))
            estimate = phi_q @ phi_k.T
            total += estimate
            sums += estimate / estimate.sum(dim=-1, keepdim=True)
            squares += (estimate / exact - 1).square().mean().item()
        kernel_means.append((total / per_group / exact - 1).mean())
        group_weights.append((sums / per_group - softmax).abs().sum(dim=-1).mean() / 2)
    return (
        torch.stack(kernel_means),
        torch.stack(group_weights),
        math.sqrt(squares / (per_group * num_groups)),
    )


def _pair(size: Size) -> tuple[Tensor, Tensor]:
    return normal(size, 0, 0), normal(size, 0, 1)


def _features(x: Tensor, rows: Tensor) -> Tensor:
    """exp(w . x - x^2 / 2) / sqrt(F)."""
    squares = x.square().sum(dim=-1, keepdim=True) / 2
    return (x @ rows.T - squares).exp() / math.sqrt(len(rows))


def _row(name: str, samples: Tensor) -> FindingRow:
    mean, low, high = mean_with_interval(samples)
    return FindingRow(name=name, value=mean, low=low, high=high)
