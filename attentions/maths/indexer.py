"""A light indexer: scores of all keys, the keys that they choose, and the loss that trains them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .blocks import best_blocks
from .tiles import Tiling

_LATER = 1e-30
"""Added to a score per place: of scores of 0, the later key's is the larger."""


def index_scores(index_q: Tensor, index_k: Tensor, index_weight: Tensor) -> Tensor:
    """Scores of pairs, sum_h w_h relu(q_h . k).

    Args:
        index_q: (B, G, N, W).
        index_k: (B, 1, M, W).
        index_weight: (B, G, N).

    Returns:
        (B, 1, N, M).
    """
    matches = (index_q @ index_k.mT).relu() * index_weight.unsqueeze(-1)
    places = torch.arange(index_k.shape[2], device=index_k.device)
    return matches.sum(dim=1, keepdim=True) + _LATER * places


@torch.no_grad()
def chosen_keys(
    most: int, tiling: Tiling, allowed: Tensor | None, index: tuple[Tensor, ...]
) -> Tensor:
    """True for the keys of each query with the highest scores, (B, 1, N, M).

    Args:
        most: keys of a query.
        tiling: of the call; its rows are scored at a time.
        allowed: masks of the call, broadcasting to (B, 1, N, M).
        index: as `index_scores` takes it.
    """
    index_q, index_k, index_weight = index
    rows, length = [], index_k.shape[2]
    for at in tiling.rows():
        end = slice(0, tiling.past + at.stop)
        scores = index_scores(index_q[:, :, at], index_k[:, :, end], index_weight[:, :, at])
        hidden = tiling.hidden(at, end, allowed, scores.device)
        scores = scores if hidden is None else scores.masked_fill(hidden, -torch.inf)
        rows.append(functional.pad(best_blocks(scores, most), (0, length - end.stop)))
    return torch.cat(rows, dim=2)


def index_loss(scores: Tensor, matches: Tensor, most: int) -> Tensor:
    """KL divergence of the scores' softmax from the mean softmax of matches.

    Both over the keys that the scores choose, a mean over queries; matches are constants.

    Args:
        scores: (B, 1, N, N).
        matches: scores of each head, (B, H, N, N).
        most: keys of a query.
    """
    later = torch.ones_like(scores, dtype=torch.bool).triu(1)
    scores = scores.masked_fill(later, -torch.inf)
    seen = best_blocks(scores.detach(), most)
    with torch.no_grad():
        weights = matches.masked_fill(~seen, -torch.inf).softmax(dim=-1)
        target = weights.mean(dim=1, keepdim=True)
    guess = scores.masked_fill(~seen, -torch.inf).log_softmax(dim=-1).masked_fill(~seen, 0.0)
    loss: Tensor = (target.xlogy(target) - target * guess).sum(dim=-1).mean()
    return loss
