"""FLatten's two claims: focusing sharpens, and the convolution restores the rank."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from bench.measuring.weights import weights
from bench.publishing.charts.plain import Curves
from bench.studies.diagnostics.measures import effective_rank, entropy, rank
from bench.studies.diagnostics.samples import Size, normal
from bench.studies.reproduce.claims.registry import Lab, register_claim
from bench.studies.reproduce.claims.samples import core_of, row_over
from bench.studies.reproduce.stored import Finding
from bench.studies.reproduce.verdicts import PaperVerdict


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
    size = Size(head_dim=32, num_tokens=196)
    focused: dict[tuple[float, float], list[float]] = {}
    softmax: dict[float, list[float]] = {}
    for spread in lab.steps(spreads, "spread"):
        for seed in range(num_seeds):
            q, k = spread * normal(size, seed, 0), spread * normal(size, seed, 1)
            own = entropy(weights(core_of("softmax", size), q, k), relative=True)
            softmax.setdefault(spread, []).append(own.mean().item())
            for factor in factors:
                core = core_of("flatten", size, seed, focusing_factor=factor, norm_over="head")
                own = entropy(weights(core, q, k), relative=True)
                focused.setdefault((spread, factor), []).append(own.mean().item())
    rows = [
        row_over(f"focusing factor {factor:g}, spread {spread:g}", focused[spread, factor])
        for spread in spreads
        for factor in factors
    ]
    rows += [row_over(f"softmax, spread {spread:g}", softmax[spread]) for spread in spreads]
    holds = [s for s in spreads if _is_sharper(s, factors, focused, softmax)]
    fails = [s for s in spreads if s not in holds]
    first, last = (row_over("", focused[spreads[0], f]).value for f in (factors[0], factors[-1]))
    blunt, sharp = (row_over("", softmax[s]).value for s in (min(spreads), max(spreads)))
    words = (
        f"entropy / ln N is {first:.3f} at factor {factors[0]:g} and {last:.3f} at "
        f"{factors[-1]:g}; that of softmax is {blunt:.3f} to {sharp:.3f}, at spreads of q and k of "
        f"{min(spreads):g} to {max(spreads):g}"
    )
    if holds and fails:
        words = f"the spread is {' or '.join(f'{s:g}' for s in holds)}: {words}"
    verdict = PaperVerdict.DOES_NOT_HOLD
    if holds:
        verdict = PaperVerdict.HOLDS_WHERE if fails else PaperVerdict.HOLDS
    lines = {"flatten": [[f, sum(focused[spreads[0], f]) / num_seeds] for f in factors]} | {
        f"softmax, spread {spread:g}": [[f, sum(own) / num_seeds] for f in factors]
        for spread, own in softmax.items()
    }
    return Finding(
        verdict=verdict,
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


def _is_sharper(
    spread: float,
    factors: list[float],
    focused: dict[tuple[float, float], list[float]],
    softmax: dict[float, list[float]],
) -> bool:
    """Whether, at a spread, entropy falls with each factor and at the last is below softmax's."""
    pairs = [
        (focused[spread, low], focused[spread, high]) for low, high in itertools.pairwise(factors)
    ]
    pairs.append((softmax[spread], focused[spread, factors[-1]]))
    steps = [row_over("", [b - a for a, b in zip(*pair, strict=True)]) for pair in pairs]
    return all(step.high is not None and step.high < 0 for step in steps)


@register_claim("flatten-convolution-restores-rank")
def convolution_restores_rank(lab: Lab, *, side: int, num_seeds: int) -> Finding:
    """Ranks of one channel's N x N map: attention, the convolution, and their sum."""
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
    verdict = PaperVerdict.HOLDS if holds else PaperVerdict.DOES_NOT_HOLD
    return Finding(verdict=verdict, words=words, rows=tuple(rows), unit="rank")


def _convolution(side: int, seed: int) -> Tensor:
    """(N, N): a 5 x 5 depthwise convolution of one channel, as torch draws it, without its bias."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = nn.Conv2d(1, 1, 5, padding=2, bias=False).double()
    images = torch.eye(side * side, dtype=torch.float64).view(-1, 1, side, side)
    with torch.no_grad():
        return layer(images).flatten(1).T  # type: ignore[no-any-return]
