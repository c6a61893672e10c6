"""Hedgehog's claim: like softmax's, the weights of its map are spiky and rise with q . k."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean

import torch

from attentions import Attention
from bench.measuring.weights import weights
from bench.studies.diagnostics.measures import entropy, rank_correlation
from bench.studies.diagnostics.samples import Size, normal
from bench.studies.reproduce.claims.registry import Lab, register_claim
from bench.studies.reproduce.claims.samples import by_name, core_of, falls, gaps, row_over
from bench.studies.reproduce.findings import Finding
from bench.studies.reproduce.verdicts import PaperVerdict

_TRAINED = "hedgehog, trained to match"
_BATCH = 4


@register_claim("hedgehog-spiky-and-monotone")
def spiky_and_monotone(
    lab: Lab, *, rows: list[str], std: float, num_steps: int, num_seeds: int
) -> Finding:
    """Compare entropy, and rank correlation with q . k, of weights of untrained and trained maps.

    Args:
        lab: shows progress.
        rows: labels to compare with.
        std: of queries and keys: at 1 softmax is nearly uniform at this size.
        num_steps: of training Hedgehog's map on weights of softmax, on fresh queries and keys.
        num_seeds: of queries, keys and maps.
    """
    names = ("softmax", "hedgehog", *rows)
    seeds = lab.steps(range(num_seeds), "seed")
    found = [_numbers(names, Size(), std, num_steps, seed) for seed in seeds]
    spread, order = (by_name(own[place] for own in found) for place in (0, 1))
    verdict, words = judged(spread, order, rows)
    return Finding(
        verdict=verdict,
        words=words,
        rows=(
            *(row_over(f"{name}, entropy / ln N", own) for name, own in spread.items()),
            *(row_over(f"{name}, rank correlation with q . k", o) for name, o in order.items()),
        ),
        unit="entropy / ln N, or correlation",
    )


def judged(
    spread: Mapping[str, Sequence[float]], order: Mapping[str, Sequence[float]], rows: Sequence[str]
) -> tuple[PaperVerdict, str]:
    """Whether the trained map has both properties of softmax, and which earlier maps lack them.

    It has one if it is nearer to softmax than to uniform weights, whose entropy / ln N is 1 and
    whose correlation is 0. An earlier map lacks one if it is farther from softmax than the trained
    map.

    Args:
        spread: entropy / ln N by row and seed.
        order: rank correlation with q . k by row and seed.
        rows: the earlier maps.
    """
    target = spread["softmax"]
    distances = {
        "spiky": {name: [*map(abs, gaps(target, own))] for name, own in spread.items()},
        "monotone": {name: [1 - value for value in own] for name, own in order.items()},
    }
    uniform = {"spiky": [1 - value for value in spread[_TRAINED]], "monotone": order[_TRAINED]}
    lacking = [name for name, own in distances.items() if not falls(uniform[name], own[_TRAINED])]
    as_near = [
        row for row in rows if not all(falls(d[row], d[_TRAINED]) for d in distances.values())
    ]
    entropy_of, order_of = ({n: mean(own) for n, own in x.items()} for x in (spread, order))
    words = (
        f"entropy / ln N is {entropy_of['softmax']:.2f} of softmax, {entropy_of['hedgehog']:.2f} "
        f"of the map as it starts and {entropy_of[_TRAINED]:.2f} of the trained one; rank "
        f"correlation with q . k is {order_of['hedgehog']:.2f} as it starts and "
        f"{order_of[_TRAINED]:.2f} trained"
    )
    if as_near:
        words += f". Not farther from softmax in one of the two: {', '.join(as_near)}"
    if lacking or len(as_near) == len(rows):
        missing = " and ".join(lacking)
        words = f"the trained map is not {missing}: {words}" if lacking else words
        return PaperVerdict.DOES_NOT_HOLD, words
    if as_near:
        others = ", ".join(row for row in rows if row not in as_near)
        return PaperVerdict.HOLDS_WHERE, f"the earlier maps are {others}: {words}"
    return PaperVerdict.HOLDS, words


def _numbers(
    rows: Sequence[str], size: Size, std: float, num_steps: int, seed: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Entropy / ln N, and rank correlation with q . k, of one seed by row."""
    q, k = std * normal(size, seed, 0), std * normal(size, seed, 1)
    cores = {name: core_of(name, size, seed) for name in rows}
    cores[_TRAINED] = _trained(size, std, num_steps, seed)
    with torch.no_grad():
        found = {name: weights(core, q, k) for name, core in cores.items()}
        return (
            {name: entropy(w, relative=True).mean().item() for name, w in found.items()},
            {name: rank_correlation(w, q @ k.mT).mean().item() for name, w in found.items()},
        )


def _trained(size: Size, std: float, num_steps: int, seed: int) -> Attention:
    """Hedgehog's map after training on softmax's weights: cross-entropy, as its paper does."""
    core, teacher = core_of("hedgehog", size, seed), core_of("softmax", size)
    optimiser = torch.optim.Adam(core.parameters(), lr=0.01)
    for step in range(num_steps):
        # None of these queries and keys, (B, H, N, D) each, are those of the test.
        stream = torch.Generator().manual_seed(10_000 + 1000 * seed + step)
        shape = (2, _BATCH, size.num_heads, size.num_tokens, size.head_dim)
        q, k = std * torch.randn(shape, generator=stream, dtype=torch.float64)
        with torch.no_grad():
            target = weights(teacher, q, k)
        loss = -(target * weights(core, q, k).clamp(min=1e-12).log()).sum(-1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return core
