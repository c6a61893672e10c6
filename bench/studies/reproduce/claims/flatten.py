"""FLatten's two claims: focusing sharpens, and the convolution restores the rank."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from statistics import mean

import torch
from torch import Tensor, nn

from attentions import Attention
from bench.measuring.weights import weights
from bench.publishing.charts.plain import Curves
from bench.studies.diagnostics.measures import effective_rank, entropy, rank
from bench.studies.diagnostics.samples import Size, normal
from bench.studies.reproduce.claims.registry import Lab, register_claim
from bench.studies.reproduce.claims.samples import by_name, core_of, falls, holds_where, row_over
from bench.studies.reproduce.findings import Finding
from bench.studies.reproduce.verdicts import PaperVerdict

_SOFTMAX = 0.0
"""Stands for softmax among the focusing factors."""


@register_claim("flatten-focusing-sharpens")
def focusing_sharpens(
    lab: Lab, *, factors: list[float], spreads: list[float], num_seeds: int
) -> Finding:
    """Entropy under rising focusing factors, against softmax's over a range of spreads of q and k.

    The focusing function keeps a token's norm, so its weights hardly depend on the spread of q and
    k. Softmax's depend on little else: at one spread it is blunt, at another sharp.

    Args:
        lab: shows progress.
        factors: of the focusing function, rising; 1 is plain ReLU.
        spreads: standard deviations of the entries of q and k.
        num_seeds: of queries and keys.
    """
    found = {
        spread: by_name(_entropies(factors, spread, seed) for seed in range(num_seeds))
        for spread in lab.steps(spreads, "spread")
    }
    softmax = {spread: own[_SOFTMAX] for spread, own in found.items()}
    rows = [
        row_over(f"focusing factor {factor:g}, spread {spread:g}", found[spread][factor])
        for spread in spreads
        for factor in factors
    ]
    rows += [row_over(f"softmax, spread {spread:g}", own) for spread, own in softmax.items()]
    # Entropy falls with each factor, and at the last is below softmax's.
    steps = [*itertools.pairwise(factors), (_SOFTMAX, factors[-1])]
    holds = [s for s in spreads if all(falls(found[s][a], found[s][b]) for a, b in steps)]
    fails = [s for s in spreads if s not in holds]
    first, *_, last = (mean(found[spreads[0]][factor]) for factor in factors)
    blunt, sharp = (mean(softmax[end(spreads)]) for end in (min, max))
    words = (
        f"entropy / ln N is {first:.3f} at factor {factors[0]:g} and {last:.3f} at "
        f"{factors[-1]:g}; that of softmax is {blunt:.3f} to {sharp:.3f}, at spreads of q and k of "
        f"{min(spreads):g} to {max(spreads):g}"
    )
    if holds and fails:
        words = f"the spread is {' or '.join(f'{s:g}' for s in holds)}: {words}"
    lines = {"flatten": [[factor, mean(found[spreads[0]][factor])] for factor in factors]}
    for spread, own in softmax.items():
        lines[f"softmax, spread {spread:g}"] = [[factor, mean(own)] for factor in factors]
    return Finding(
        verdict=holds_where(holds, fails),
        words=words,
        rows=tuple(rows),
        unit="entropy / ln N",
        curves=Curves(
            title="Entropy of attention against the focusing factor",
            x="focusing factor",
            y="entropy / ln N",
            lines=lines,
        ),
    )


def _entropies(factors: Sequence[float], spread: float, seed: int) -> dict[float, float]:
    """Mean entropy / ln N by the focusing factor, and of softmax."""
    size = Size(head_dim=32, num_tokens=196)
    q, k = spread * normal(size, seed, 0), spread * normal(size, seed, 1)
    cores: dict[float, Attention] = {_SOFTMAX: core_of("softmax", size)}
    for factor in factors:
        cores[factor] = core_of("flatten", size, seed, focusing_factor=factor, norm_over="head")
    return {
        factor: entropy(weights(core, q, k), relative=True).mean().item()
        for factor, core in cores.items()
    }


@register_claim("flatten-convolution-restores-rank")
def convolution_restores_rank(lab: Lab, *, side: int, num_seeds: int) -> Finding:
    """Ranks of one channel's N x N map: attention, the convolution, and their sum."""
    size = Size(num_heads=1, head_dim=32, num_tokens=side * side)
    matrices = [_matrices(size, side, seed) for seed in lab.steps(range(num_seeds), "seed")]
    rows = [
        row_over(f"{name}, {what}", (measure(own[name]).item() for own in matrices))
        for what, measure in (("rank", rank), ("effective rank", effective_rank))
        for name in matrices[0]
    ]
    alone, both, convolution_alone = (row.value for row in rows[:3])
    holds = alone <= size.head_dim < both == convolution_alone
    words = (
        f"the rank rises from {alone:.0f}, at most head_dim, to {both:.0f} of {side * side}; the "
        f"convolution has a rank of {convolution_alone:.0f} by itself, whatever the attention is"
    )
    verdict = PaperVerdict.HOLDS if holds else PaperVerdict.DOES_NOT_HOLD
    return Finding(verdict=verdict, words=words, rows=tuple(rows), unit="rank")


def _matrices(size: Size, side: int, seed: int) -> dict[str, Tensor]:
    """(N, N) each; the convolution is 5 x 5 and depthwise, as torch draws it, without its bias."""
    q, k = normal(size, seed, 0), normal(size, seed, 1)
    attention = weights(core_of("flatten", size, seed), q, k)[0, 0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = nn.Conv2d(1, 1, 5, padding=2, bias=False).double()
    images = torch.eye(side * side, dtype=torch.float64).view(-1, 1, side, side)
    with torch.no_grad():
        convolution = layer(images).flatten(1).T
    return {
        "flatten": attention,
        "flatten and convolution": attention + convolution,
        "convolution alone": convolution,
        "softmax": weights(core_of("softmax", size), q, k)[0, 0],
    }
