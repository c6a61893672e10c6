"""PolaFormer's claim: products of unlike signs carry information."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.measuring.weights import weights
from bench.studies.diagnostics.measures import rank_correlation
from bench.studies.diagnostics.samples import Size, normal
from bench.studies.reproduce.claims.registry import Lab, register_claim
from bench.studies.reproduce.claims.samples import by_name, core_of, row_over
from bench.studies.reproduce.findings import Finding
from bench.studies.reproduce.verdicts import PaperVerdict


@register_claim("polaformer-unlike-signs")
def unlike_signs(lab: Lab, *, num_seeds: int) -> Finding:
    """How much of q . k, and of softmax's order of keys, the products of like signs leave out.

    q . k is the sum of products of like signs less that of unlike signs. A ReLU on both sides
    keeps half of the first alone.
    """
    found = by_name(_numbers(seed) for seed in lab.steps(range(num_seeds), "seed"))
    rows = tuple(row_over(name, own) for name, own in found.items())
    _, positive, alone, both, _, opposite = rows
    holds = alone.high is not None and alone.high < 0.95 and both.value > 0.99
    words = (
        f"both positive explain {100 * positive.value:.0f} % of the variance of q . k, like signs "
        f"{100 * alone.value:.0f} %, like and unlike signs all of it; but keys of unlike signs are "
        f"those that softmax gives least (rank correlation {opposite.value:+.2f}), so that half of "
        "the values is mixed from what softmax leaves out"
    )
    verdict = PaperVerdict.HOLDS if holds else PaperVerdict.DOES_NOT_HOLD
    return Finding(verdict=verdict, words=words, rows=rows, unit="share or correlation")


def _numbers(seed: int) -> dict[str, float]:
    """Numbers by the name of their row, for queries and keys of one seed."""
    size = Size()
    q, k = normal(size, seed, 0), normal(size, seed, 1)
    products = q.unsqueeze(-2) * k.unsqueeze(-3)  # (1, H, N, M, D)
    like, unlike = products.clamp(min=0).sum(-1), (-products).clamp(min=0).sum(-1)
    scores, of_variance = q @ k.mT, "share of the variance of q . k by"
    first, second = weights(core_of("polaformer", size), q, k).chunk(2, dim=1)
    softmax, correlation = (
        weights(core_of("softmax", size), q, k),
        "rank correlation of softmax's weights with polaformer's",
    )
    return {
        "share of |products| that have unlike signs": (
            unlike.sum() / (like.sum() + unlike.sum())
        ).item(),
        f"{of_variance} both positive": _explained(scores, q.clamp(min=0) @ k.clamp(min=0).mT),
        f"{of_variance} like signs": _explained(scores, like),
        f"{of_variance} like and unlike signs": _explained(scores, like, unlike),
        f"{correlation} like half": rank_correlation(softmax, first).mean().item(),
        f"{correlation} unlike half": rank_correlation(softmax, second).mean().item(),
    }


def _explained(target: Tensor, *parts: Tensor) -> float:
    """R squared of a linear fit with a constant."""
    y = target.flatten()
    x = torch.stack([torch.ones_like(y), *(part.flatten() for part in parts)], dim=1)
    fit = x @ torch.linalg.lstsq(x, y[:, None]).solution
    left = (y[:, None] - fit).square().sum()
    return float(1 - left / (y - y.mean()).square().sum())
