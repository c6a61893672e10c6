"""Hedgehog's claim: like softmax's, the weights of its map are spiky and rise with q . k."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean

import torch
from torch import Tensor

from attentions import Attention
from bench.core.grid import CLEARLY, GRIDS, MAX_WIDENINGS, Best, Trained, best_of
from bench.measuring.weights import weights
from bench.studies.diagnostics.measures import entropy, rank_correlation
from bench.studies.diagnostics.samples import Size, normal
from bench.studies.reproduce.claims.registry import Lab, register_claim
from bench.studies.reproduce.claims.samples import by_name, core_of, falls, gaps, row_over
from bench.studies.reproduce.findings import Finding, FindingRow
from bench.studies.reproduce.verdicts import PaperVerdict

_TRAINED = "hedgehog, trained to match"
_SIZE = Size()
_BATCH = 4
_HELD_OUT = 8
"""Batches on which a map is scored."""


@register_claim("hedgehog-spiky-and-monotone")
def spiky_and_monotone(
    lab: Lab, *, rows: list[str], std: float, num_steps: int, num_seeds: int
) -> Finding:
    """Compare entropy, and rank correlation with q . k, of weights of untrained and trained maps.

    Args:
        lab: shows progress.
        rows: labels to compare with.
        std: of queries and keys: at 1 softmax is nearly uniform at this size.
        num_steps: of training Hedgehog's map on weights of softmax, on fresh queries and keys, at
            a rate that is searched with the first seed.
        num_seeds: of queries, keys and maps.
    """
    names = ("softmax", "hedgehog", *rows)
    maps, best = _searched(lab, std, num_steps)
    assert best.rate is not None  # some rate of the grid is too low to diverge
    trained = [maps[best.rate]]
    for seed in lab.steps(range(1, num_seeds), "map of a further seed"):
        trained.append(_trained(std, best.rate, num_steps, seed))
    found = [_numbers(names, std, own.core, seed) for seed, own in enumerate(trained)]
    spread, order = (by_name(own[place] for own in found) for place in (0, 1))
    verdict, words = judged(spread, order, rows)
    fell = max(own.fell for own in trained)
    tried = ", ".join(f"{rate:g}" for rate in sorted(maps))
    words += f". Rates tried: {tried}; over the last half of the steps the loss fell by {fell:.4f}"
    if fell >= CLEARLY:
        verdict, words = PaperVerdict.NO_VERDICT, f"the map still learned at the end: {words}"
    elif best.beyond is not None:
        verdict, words = (
            PaperVerdict.UNTUNED,
            f"the best rate is at the edge of the search: {words}",
        )
    training = FindingRow(
        name="",
        value=0,
        rate=best.rate,
        rate_chosen="searched",
        steps=f"{num_steps} of {num_steps}",
        num_seeds=num_seeds,
    )
    numbers = [
        *(row_over(f"{name}, entropy / ln N", own) for name, own in spread.items()),
        *(row_over(f"{name}, rank correlation with q . k", own) for name, own in order.items()),
    ]
    return Finding(
        verdict=verdict,
        words=words,
        rows=tuple(
            replace(training, name=row.name, value=row.value, low=row.low, high=row.high)
            if row.name.startswith(_TRAINED)
            else row
            for row in numbers
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


@dataclass(frozen=True, kw_only=True)
class _Map:
    """Hedgehog's map after training.

    Attributes:
        loss: cross-entropy with softmax's weights in nats, on queries and keys of no update.
        fell: by how much that loss fell over the last half of the steps.
    """

    core: Attention
    loss: float
    fell: float


def _searched(lab: Lab, std: float, num_steps: int) -> tuple[dict[float, _Map], Best]:
    """Maps of the first seed by rate, and the best rate; the grid widens at its edge."""
    maps: dict[float, _Map] = {}
    wanted = GRIDS["usual"]
    for _ in range(1 + MAX_WIDENINGS):
        for rate in lab.steps(wanted, "rate"):
            maps[rate] = _trained(std, rate, num_steps, seed=0)
        losses = {rate: own.loss for rate, own in maps.items()}
        runs = {r: Trained(score=x if math.isfinite(x) else None) for r, x in losses.items()}
        best = best_of(runs, better="lower")
        if best.beyond is None:
            break
        wanted = (best.beyond,)
    return maps, best


def _numbers(
    rows: Sequence[str], std: float, trained: Attention, seed: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Entropy / ln N, and rank correlation with q . k, of one seed by row."""
    q, k = std * normal(_SIZE, seed, 0), std * normal(_SIZE, seed, 1)
    cores = {name: core_of(name, _SIZE, seed) for name in rows} | {_TRAINED: trained}
    with torch.no_grad():
        found = {name: weights(core, q, k) for name, core in cores.items()}
        return (
            {name: entropy(w, relative=True).mean().item() for name, w in found.items()},
            {name: rank_correlation(w, q @ k.mT).mean().item() for name, w in found.items()},
        )


def _trained(std: float, rate: float, num_steps: int, seed: int) -> _Map:
    """Train Hedgehog's map on softmax's weights by cross-entropy, as its paper does."""
    core, teacher = core_of("hedgehog", _SIZE, seed), core_of("softmax", _SIZE)

    def loss(number: int) -> Tensor:
        # None of these queries and keys, (B, H, N, D) each, are those of the test.
        stream = torch.Generator().manual_seed(number)
        shape = (2, _BATCH, _SIZE.num_heads, _SIZE.num_tokens, _SIZE.head_dim)
        q, k = std * torch.randn(shape, generator=stream, dtype=torch.float64)
        with torch.no_grad():
            target = weights(teacher, q, k)
        return -(target * weights(core, q, k).clamp(min=1e-12).log()).sum(-1).mean()

    def held_out() -> float:
        with torch.no_grad():
            return mean(loss(5_000_000 + 1000 * seed + part).item() for part in range(_HELD_OUT))

    optimiser = torch.optim.Adam(core.parameters(), lr=rate)
    half = math.inf
    for step in range(num_steps):
        if step == num_steps // 2:
            half = held_out()
        optimiser.zero_grad()
        loss(10_000 + 1000 * seed + step).backward()
        optimiser.step()
    end = held_out()
    return _Map(core=core, loss=end, fell=half - end)
