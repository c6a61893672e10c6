"""Hedgehog's claim: like softmax's, the weights of its map are spiky and rise with q . k."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean

import torch
from torch import Tensor

from attentions import Attention
from bench.measuring.weights import weights
from bench.studies.diagnostics.measures import entropy, rank_correlation
from bench.studies.diagnostics.samples import Size, normal
from bench.studies.reproduce.claims.registry import Lab, register_claim
from bench.studies.reproduce.claims.samples import core_of, row_over
from bench.studies.reproduce.stored import Finding
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
    size = Size()
    spread: dict[str, list[float]] = {}
    order: dict[str, list[float]] = {}
    for seed in lab.steps(range(num_seeds), "seed"):
        q, k = std * normal(size, seed, 0), std * normal(size, seed, 1)
        scores = q @ k.mT
        cores = {name: core_of(name, size, seed) for name in ("softmax", "hedgehog", *rows)}
        cores[_TRAINED] = _trained(size, std, num_steps, seed)
        for name, core in cores.items():
            with torch.no_grad():
                w = weights(core, q, k)
            spread.setdefault(name, []).append(entropy(w, relative=True).mean().item())
            order.setdefault(name, []).append(rank_correlation(w, scores).mean().item())
    entropies = {name: row_over(f"{name}, entropy / ln N", own) for name, own in spread.items()}
    orders = {
        name: row_over(f"{name}, rank correlation with q . k", o) for name, o in order.items()
    }
    verdict, words = judged(spread, order, rows)
    numbers = (*entropies.values(), *orders.values())
    return Finding(
        verdict=verdict, words=words, rows=numbers, unit="entropy / ln N, or correlation"
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
        "spiky": {
            n: [abs(a - b) for a, b in zip(o, target, strict=True)] for n, o in spread.items()
        },
        "monotone": {name: [1 - value for value in own] for name, own in order.items()},
    }
    uniform = {
        "spiky": [1 - value for value in spread[_TRAINED]],
        "monotone": list(order[_TRAINED]),
    }
    lacking = [
        name for name, own in distances.items() if not _is_less(own[_TRAINED], uniform[name])
    ]
    as_near = [
        row
        for row in rows
        if not all(_is_less(own[_TRAINED], own[row]) for own in distances.values())
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


def _is_less(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether the first is less, by the 95 % interval of the difference seed by seed."""
    gap = row_over("", [a - b for a, b in zip(first, second, strict=True)])
    return gap.high is not None and gap.high < 0


def _trained(size: Size, std: float, num_steps: int, seed: int) -> Attention:
    """Hedgehog's map after training on softmax's weights: cross-entropy, as its paper does."""
    core, teacher = core_of("hedgehog", size, seed), core_of("softmax", size)
    optimiser = torch.optim.Adam(core.parameters(), lr=0.01)
    for step in range(num_steps):
        q, k = _batch(size, std, seed, step)
        with torch.no_grad():
            target = weights(teacher, q, k)
        loss = -(target * weights(core, q, k).clamp(min=1e-12).log()).sum(-1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return core


def _batch(size: Size, std: float, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """Queries and keys of a training step, (B, H, N, D) each; none are those of the test."""
    stream = torch.Generator().manual_seed(10_000 + 1000 * seed + step)
    shape = (2, _BATCH, size.num_heads, size.num_tokens, size.head_dim)
    q, k = std * torch.randn(shape, generator=stream, dtype=torch.float64)
    return q, k
