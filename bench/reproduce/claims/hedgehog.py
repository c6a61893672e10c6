"""Hedgehog's sentence: softmax's weights are spiky and rise with q . k, and its map does so too."""

from __future__ import annotations

import torch
from torch import Tensor

from attentions import Attention
from bench.diagnostics.measures import entropy, rank_correlation
from bench.diagnostics.samples import Size, normal
from bench.diagnostics.weights import weights
from bench.reproduce.claims.registry import Lab, register_claim
from bench.reproduce.claims.samples import core_of, row_over
from bench.reproduce.stored import Finding, Row
from bench.reproduce.verdicts import Verdict

_TRAINED = "hedgehog, trained to match"
_BATCH = 4


@register_claim("hedgehog-spiky-and-monotone")
def spiky_and_monotone(
    lab: Lab, *, rows: list[str], std: float, num_steps: int, num_seeds: int
) -> Finding:
    """Entropy, and how well weights keep the order of q . k, of maps as they are and a trained one.

    Args:
        lab: shows progress.
        rows: entries of conf/attention to compare with.
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
    verdict, words = _verdict(entropies, orders, rows)
    numbers = (*entropies.values(), *orders.values())
    return Finding(
        verdict=verdict, words=words, rows=numbers, unit="entropy / ln N, or correlation"
    )


def _verdict(
    entropies: dict[str, Row], orders: dict[str, Row], rows: list[str]
) -> tuple[Verdict, str]:
    """Holds if the trained map is nearer to softmax than every other row, in both numbers."""
    target = entropies["softmax"].value

    def distance(name: str) -> float:
        return abs(entropies[name].value - target)

    nearest = min(rows, key=distance)
    most_ordered = max(rows, key=lambda name: orders[name].value)
    trained, plain = entropies[_TRAINED].value, entropies["hedgehog"].value
    words = (
        f"entropy / ln N is {target:.2f} of softmax, {plain:.2f} of the map as it starts and "
        f"{trained:.2f} of the trained one; of the others {nearest} comes nearest with "
        f"{entropies[nearest].value:.2f}. Rank correlation with q . k is "
        f"{orders['hedgehog'].value:.2f} as it starts, {orders[_TRAINED].value:.2f} trained, and "
        f"{orders[most_ordered].value:.2f} of {most_ordered}, the best of the others"
    )
    is_spikier = distance(_TRAINED) < distance(nearest)
    is_more_ordered = orders[_TRAINED].value > orders[most_ordered].value
    if is_spikier and is_more_ordered:
        return Verdict.HOLDS, words
    if is_spikier or is_more_ordered:
        part = "the spikiness is meant" if is_spikier else "the order of keys is meant"
        return Verdict.HOLDS_WHERE, f"{part}: {words}"
    return Verdict.DOES_NOT_HOLD, words


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
    """Fresh queries and keys: none are those of the test."""
    stream = torch.Generator().manual_seed(10_000 + 1000 * seed + step)
    shape = (2, _BATCH, size.num_heads, size.num_tokens, size.head_dim)
    q, k = std * torch.randn(shape, generator=stream, dtype=torch.float64)
    return q, k
