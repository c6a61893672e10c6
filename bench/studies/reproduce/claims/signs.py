"""PolaFormer's claim: products of unlike signs carry information."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.measuring.weights import weights
from bench.studies.diagnostics.measures import rank_correlation
from bench.studies.diagnostics.samples import Size, normal
from bench.studies.reproduce.claims.registry import Lab, register_claim
from bench.studies.reproduce.claims.samples import core_of, row_over
from bench.studies.reproduce.stored import Finding
from bench.studies.reproduce.verdicts import PaperVerdict


@register_claim("polaformer-unlike-signs")
def unlike_signs(lab: Lab, *, num_seeds: int) -> Finding:
    """How much of q . k, and of softmax's order of keys, the products of like signs leave out.

    q . k is the sum of products of like signs less that of unlike signs. A ReLU on both sides
    keeps half of the first alone.
    """
    size = Size()
    names = (
        "share of |products| that have unlike signs",
        "share of the variance of q . k by both positive",
        "share of the variance of q . k by like signs",
        "share of the variance of q . k by like and unlike signs",
        "rank correlation of softmax's weights with polaformer's like half",
        "rank correlation of softmax's weights with polaformer's unlike half",
    )
    found: dict[str, list[float]] = {name: [] for name in names}
    for seed in lab.steps(range(num_seeds), "seed"):
        q, k = normal(size, seed, 0), normal(size, seed, 1)
        products = q.unsqueeze(-2) * k.unsqueeze(-3)  # (1, H, N, M, D)
        like, unlike = products.clamp(min=0).sum(-1), (-products).clamp(min=0).sum(-1)
        both_positive = q.clamp(min=0) @ k.clamp(min=0).mT
        scores = q @ k.mT
        softmax = weights(core_of("softmax", size), q, k)
        first, second = weights(core_of("polaformer", size), q, k).chunk(2, dim=1)
        numbers = (
            (unlike.sum() / (like.sum() + unlike.sum())).item(),
            _explained(scores, both_positive),
            _explained(scores, like),
            _explained(scores, like, unlike),
            rank_correlation(softmax, first).mean().item(),
            rank_correlation(softmax, second).mean().item(),
        )
        for name, number in zip(names, numbers, strict=True):
            found[name].append(number)
    rows = [row_over(name, found[name]) for name in names]
    _, positive, alone, both, _, opposite = rows
    holds = alone.high is not None and alone.high < 0.95 and both.value > 0.99
    words = (
        f"both positive explain {100 * positive.value:.0f} % of the variance of q . k, like signs "
        f"{100 * alone.value:.0f} %, like and unlike signs all of it; but keys of unlike signs are "
        f"those that softmax gives least (rank correlation {opposite.value:+.2f}), so that half of "
        "the values is mixed from what softmax leaves out"
    )
    verdict = PaperVerdict.HOLDS if holds else PaperVerdict.DOES_NOT_HOLD
    return Finding(verdict=verdict, words=words, rows=tuple(rows), unit="share or correlation")


def _explained(target: Tensor, *parts: Tensor) -> float:
    """R squared of a linear fit with a constant."""
    y = target.flatten()
    x = torch.stack([torch.ones_like(y), *(part.flatten() for part in parts)], dim=1)
    fit = x @ torch.linalg.lstsq(x, y[:, None]).solution
    left = (y[:, None] - fit).square().sum()
    return float(1 - left / (y - y.mean()).square().sum())
