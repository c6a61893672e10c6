"""FLatten's two sentences: focusing sharpens, and the convolution restores the rank."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from bench.diagnostics.measures import effective_rank, entropy, rank
from bench.diagnostics.samples import Size, normal
from bench.diagnostics.weights import weights
from bench.publish.charts.plain import Curves
from bench.reproduce.claims.registry import Lab, register_claim
from bench.reproduce.claims.samples import core_of, row_over
from bench.reproduce.stored import Finding
from bench.reproduce.verdicts import Verdict


@register_claim("flatten-focusing-sharpens")
def focusing_sharpens(lab: Lab, *, factors: list[float], num_seeds: int) -> Finding:
    """Entropy of the same queries and keys under rising focusing factors; 1 is plain ReLU."""
    size = Size(head_dim=32, num_tokens=196)
    found: dict[float, list[float]] = {}
    for factor in lab.steps(factors, "factor"):
        found[factor] = []
        for seed in range(num_seeds):
            core = core_of("flatten", size, seed, focusing_factor=factor, norm_over="head")
            w = weights(core, normal(size, seed, 0), normal(size, seed, 1))
            found[factor].append(entropy(w, relative=True).mean().item())
    softmax = []
    for seed in range(num_seeds):
        w = weights(core_of("softmax", size), normal(size, seed, 0), normal(size, seed, 1))
        softmax.append(entropy(w, relative=True).mean().item())
    rows = [row_over(f"focusing factor {factor:g}", found[factor]) for factor in factors]
    rows.append(row_over("softmax, same queries and keys", softmax))
    steps = [
        row_over("", [b - a for a, b in zip(found[low], found[high], strict=True)])
        for low, high in itertools.pairwise(factors)
    ]
    falls = all(step.high is not None and step.high < 0 for step in steps)
    words = f"entropy / ln N falls from {rows[0].value:.3f} at factor {factors[0]:g} to "
    words += f"{rows[-2].value:.3f} at {factors[-1]:g}; that of softmax is {rows[-1].value:.3f}"
    lines = {
        "flatten": [[factor, sum(own) / num_seeds] for factor, own in found.items()],
        "softmax": [[factor, sum(softmax) / num_seeds] for factor in factors],
    }
    return Finding(
        verdict=Verdict.HOLDS if falls else Verdict.DOES_NOT_HOLD,
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


@register_claim("flatten-convolution-restores-rank")
def convolution_restores_rank(lab: Lab, *, side: int, num_seeds: int) -> Finding:
    """Rank of one channel's N x N map: attention, with the convolution, and that alone."""
    size = Size(num_heads=1, head_dim=32, num_tokens=side * side)
    names = ("flatten", "flatten and convolution", "convolution alone", "softmax")
    ranks: dict[str, list[float]] = {name: [] for name in names}
    effective: dict[str, list[float]] = {name: [] for name in names}
    for seed in lab.steps(range(num_seeds), "seed"):
        q, k = normal(size, seed, 0), normal(size, seed, 1)
        attention = weights(core_of("flatten", size, seed), q, k)[0, 0]
        convolution = _convolution(side, seed)
        softmax = weights(core_of("softmax", size), q, k)[0, 0]
        matrices = (attention, attention + convolution, convolution, softmax)
        for name, matrix in zip(names, matrices, strict=True):
            ranks[name].append(rank(matrix).item())
            effective[name].append(effective_rank(matrix).item())
    rows = [row_over(f"{name}, rank", ranks[name]) for name in names]
    rows += [row_over(f"{name}, effective rank", effective[name]) for name in names]
    alone, both, convolution_alone, _ = (row.value for row in rows[: len(names)])
    holds = alone <= size.head_dim < both == convolution_alone
    words = (
        f"the rank rises from {alone:.0f}, at most head_dim, to {both:.0f} of {side * side}; the "
        f"convolution has a rank of {convolution_alone:.0f} by itself, whatever the attention is"
    )
    verdict = Verdict.HOLDS if holds else Verdict.DOES_NOT_HOLD
    return Finding(verdict=verdict, words=words, rows=tuple(rows), unit="rank")


def _convolution(side: int, seed: int) -> Tensor:
    """(N, N): a 5 x 5 depthwise convolution of one channel, as torch draws it, without its bias."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = nn.Conv2d(1, 1, 5, padding=2, bias=False).double()
    images = torch.eye(side * side, dtype=torch.float64).view(-1, 1, side, side)
    with torch.no_grad():
        return layer(images).flatten(1).T  # type: ignore[no-any-return]
