"""Blocks of keys: their means, and a choice of some of them for each query."""

from __future__ import annotations

import torch
from torch import Tensor

from ..shared_heads import for_every_query_head


def block_means(x: Tensor, size: int) -> Tensor:
    """Means over whole blocks of tokens, (B, H, M, D) -> (B, H, M // size, D)."""
    whole = x.shape[2] // size
    blocks = torch.unflatten(x[:, :, : whole * size], 2, (whole, size))
    return blocks.mean(dim=3)


def block_scores(q: Tensor, means: Tensor) -> Tensor:
    """Q . mean, (B, H, N, D), (B, H_kv, blocks, D) -> (B, H, N, blocks), in float64.

    Which blocks are the best then hardly depends on the order of a sum.
    """
    scores: Tensor = q.double() @ for_every_query_head(means.double(), q.shape[1]).mT
    return scores


def best_blocks(scores: Tensor, most: int) -> Tensor:
    """True for the blocks with the highest scores of each row; never for one of minus infinity."""
    values, places = scores.topk(min(most, scores.shape[-1]), dim=-1)
    nothing = torch.zeros_like(scores, dtype=torch.bool)
    return nothing.scatter(-1, places, values > -torch.inf)


def keys_of_blocks(chosen: Tensor, size: int, window: int = 1) -> Tensor:
    """Keys up to each query that lie in chosen blocks or in a window, (B, H, N).

    Args:
        chosen: (B, H, N, blocks), of all tokens.
        size: keys of a block.
        window: the last tokens that a query sees anyway, itself among them.
    """
    places = torch.arange(chosen.shape[2], device=chosen.device).unsqueeze(-1)
    starts = torch.arange(chosen.shape[3], device=chosen.device) * size
    seen = (places + 1 - starts).clamp(0, size)
    before = (places + 1 - window - starts).clamp(0, size)  # the window begins behind these
    return torch.where(chosen, seen, seen - before).sum(dim=-1)


def blocks_before(num_tokens: int, size: int) -> int:
    """Blocks before each token's own, summed over tokens.

    >>> blocks_before(5, 2)
    4
    """
    whole, rest = divmod(num_tokens, size)
    return size * whole * (whole - 1) // 2 + whole * rest


def pairs_of_blocks(num_tokens: int, size: int, most: int, *, whole_own: bool = False) -> int:
    """Pairs of a token with the keys up to it in its own block and in ``most`` - 1 earlier ones.

    >>> pairs_of_blocks(5, 2, 1), pairs_of_blocks(5, 2, 2), pairs_of_blocks(5, 2, 2, whole_own=True)
    (7, 13, 15)
    """
    pairs = 0
    for block in range(-(-num_tokens // size)):
        tokens = min(size, num_tokens - block * size)
        own = tokens if whole_own else (tokens + 1) / 2
        pairs += int(tokens * own) + tokens * size * min(block, most - 1)
    return pairs
