"""Performer's claim: random features estimate softmax's kernel without bias, however few."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from attentions.maths.orthogonal import orthogonal_gaussian
from bench.studies.diagnostics.samples import Size, normal
from bench.studies.reproduce.claims.registry import Lab, register_claim
from bench.studies.reproduce.claims.samples import row_over
from bench.studies.reproduce.findings import Finding, FindingRow
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
        num_draws: number of random projections, over all groups; no fewer than these.
        num_groups: number of groups of projections; the interval is over the means of groups.
    """
    size = Size(num_heads=1, num_tokens=32)
    sizes = [(norm, count) for norm in norms for count in num_features]
    kernels, ratios, errors = {}, {}, {}
    for norm, count in lab.steps(sizes, "size"):
        kernel, ratio, error = _biases(size, norm, count, num_draws, num_groups)
        at = f"{count} features, norm {norm:g}"
        kernels[at] = row_over(f"{at}: bias of the kernel, % of it", (100 * kernel).tolist())
        ratios[at] = row_over(f"{at}: bias of the weights, total variation", ratio.tolist())
        name = f"{at}: error of one draw, % of the kernel"
        errors[at] = FindingRow(name=name, value=100 * error)
    biased = [at for at, row in kernels.items() if not _holds_0(row)]
    worst = max(ratios, key=lambda at: ratios[at].value)
    of_one_draw = [row.value for row in errors.values()]
    words = (
        f"with {min(num_features)} to {max(num_features)} features (D ln D is "
        f"{math.floor(size.head_dim * math.log(size.head_dim))}), every interval of its bias holds "
        "0"
        if not biased
        else f"the kernel's bias has an interval without 0 at {', '.join(biased)}"
    )
    words += (
        f"; the weights, a ratio, are biased by up to {ratios[worst].value:.2f} in total variation "
        f"({worst}), and one draw is off by {of_one_draw[0]:.0f} to {max(of_one_draw):.0f} %"
    )
    verdict = PaperVerdict.DOES_NOT_HOLD
    if len(biased) <= 1 + len(sizes) // 20:  # one interval of twenty may miss 0 by chance alone
        verdict = PaperVerdict.HOLDS_WHERE
        words = f"the kernel is meant and not the weights that it gives: {words}"
    rows = tuple(rows[at] for at in kernels for rows in (kernels, ratios, errors))
    return Finding(verdict=verdict, words=words, rows=rows, unit="see the row")


def _holds_0(row: FindingRow) -> bool:
    return row.low is not None and row.high is not None and row.low <= 0 <= row.high


def _biases(
    size: Size, norm: float, num_features: int, num_draws: int, num_groups: int
) -> tuple[Tensor, Tensor, float]:
    """Biases by group, (num_groups,) each, and the relative RMS error of the kernel in one draw.

    Bias is the mean relative error of the kernel, and the weights' total variation from softmax's.
    """
    pair = (normal(size, 0, purpose)[0, 0] for purpose in (0, 1))
    q, k = (x / x.norm(dim=-1, keepdim=True) * norm for x in pair)
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
    error = math.sqrt(squares / (per_group * num_groups))
    return torch.stack(kernel_means), torch.stack(group_weights), error


def _features(x: Tensor, rows: Tensor) -> Tensor:
    """exp(w . x - x^2 / 2) / sqrt(F)."""
    squares = x.square().sum(dim=-1, keepdim=True) / 2
    return (x @ rows.T - squares).exp() / math.sqrt(len(rows))
