"""Linear attention with a decay, whose pairs of tokens have a scale by their level.

    out_i = sum_(j <= i) scale_i[level(i, j)] exp(g_{j+1} + ... + g_i) (q_i . k_j) v_j

Level 0 is the token itself. Level l >= 1 of query i is the block of 2^(l-1) tokens that ends where
i, without its l - 1 lowest bits, begins; there is one if bit l - 1 of i is set. These blocks, of a
Fenwick tree, are all tokens before i. Each has a state, and a state of a level is a sum of those of
lower ones. Two tokens are on the level of the highest bit in which their places differ.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .chunks import in_chunks, power_of_two_chunk
from .decay import chunk_decays


class LevelState(NamedTuple):
    """A state of each level as the last token sees it, (B, H, L, D, E), and the tokens so far."""

    levels: Tensor
    length: int


def levels_of(length: int) -> int:
    """Levels of so many tokens."""
    return (length - 1).bit_length() + 1


def blocks(place: int) -> list[int]:
    """The levels of a place that hold tokens, itself aside.

    >>> blocks(6), blocks(7)
    ([2, 3], [1, 2, 3])
    """
    return [level for level in range(1, place.bit_length() + 1) if place >> (level - 1) & 1]


def merged(levels: Tensor, place: int) -> Tensor:
    """The levels of the place before as the next one sees them: the lowest become one."""
    if place == 0:
        return levels
    top = (place & -place).bit_length()
    block = levels[:, :, :top].sum(dim=2, keepdim=True)
    return torch.cat((torch.zeros_like(levels[:, :, :top]), block, levels[:, :, top + 1 :]), dim=2)


def levelled_attention(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, scale: Tensor, state: LevelState
) -> tuple[Tensor, LevelState]:
    """Query i sees ``state`` and then the keys 0..i, chunk by chunk.

    Args:
        q: (B, H, N, D).
        k: (B, H, N, D).
        v: (B, H, N, E).
        log_decay: (B, H, N); B may be 1, and N may be 1 for a decay that never changes.
        scale: (B, H, N, L).
        state: of a number of tokens that is a multiple of the chunk's.

    Returns:
        The output, (B, H, N, E), and the state after the last token.
    """
    length, past = q.shape[2], state.length
    size = power_of_two_chunk(length)
    depth = size.bit_length()  # levels within a chunk
    from_start, to_end, between = chunk_decays(log_decay, length, size, q.dtype)
    last = (length - 1) % size
    q, k, v, scale = (in_chunks(x, size) for x in (q, k, v, scale.to(q.dtype)))
    within = scale[..., :depth].gather(-1, _levels(size, q.device).expand(*scale.shape[:-1], size))
    out = list(((q @ k.mT) * between * within @ v).unbind(2))
    q, keys = q * from_start, (k * to_end).mT
    levels = merged(state.levels, past).unbind(2)
    above = {level: levels[level] for level in blocks(past) if level >= depth}
    for c in range(len(out)):
        for level, block in above.items():
            out[c] = out[c] + (q[:, :, c] * scale[:, :, c, :, level : level + 1]) @ block
        left = from_start[:, :, c, -1:]
        above = {level: left * block for level, block in above.items()}
        if c < len(out) - 1:
            place = past // size + c + 1
            top = depth + (place & -place).bit_length() - 1
            block = keys[:, :, c] @ v[:, :, c]
            block = block + sum(above.pop(level) for level in range(depth, top) if level in above)
            above[top] = block
    below = {0: (last, last + 1)} | {level: _block(last, level) for level in blocks(last)}
    keys, v = keys[:, :, -1], v[:, :, -1]
    above |= {level: keys[..., a:b] @ v[:, :, a:b] for level, (a, b) in below.items()}
    empty = torch.zeros_like(above[0])
    after = torch.stack([above.get(level, empty) for level in range(len(levels))], dim=2)
    return torch.stack(out, dim=2).flatten(2, 3)[:, :, :length], LevelState(after, past + length)


def _levels(size: int, device: torch.device) -> Tensor:
    """The level of each pair of a chunk, (C, C); 0 for later keys."""
    table = [[(i ^ j).bit_length() if j < i else 0 for j in range(size)] for i in range(size)]
    return torch.tensor(table, device=device)


def _block(place: int, level: int) -> tuple[int, int]:
    """Where the block of a level begins and ends, which a place has."""
    start = place >> level << level
    return start, start + (1 << (level - 1))


def levelled_pairs(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    scale: Tensor,
    places: Tensor | None = None,
) -> Tensor:
    """All N x N pairs, level after level, from an empty state.

    Args:
        q: (B, H, N, D).
        k: (B, H, N, D).
        v: (B, H, N, E).
        log_decay: (B, H, N); B may be 1, and N may be 1.
        scale: (B, H, N, L).
        places: of each token in the tree, (B, N); 0 to N - 1 if None.
    """
    length = q.shape[2]
    total = log_decay.double().expand(-1, -1, length).cumsum(dim=-1)
    decay = (total[..., :, None] - total[..., None, :]).tril().exp().tril().to(q.dtype)
    at = torch.arange(length, device=q.device)[None] if places is None else places
    weights = torch.zeros_like(decay)
    for level in range(scale.shape[-1]):
        block = at >> max(level - 1, 0)
        query, key = block[:, None, :, None], block[:, None, None, :]
        seen = query == key if level == 0 else (query % 2 == 1) & (key == query - 1)
        weights = weights + scale[..., level : level + 1].to(q.dtype) * seen
    out: Tensor = (q @ k.mT * decay * weights) @ v
    return out


def set_bits(length: int) -> int:
    """The bits that are set in 0, ..., length - 1: blocks that so many queries read.

    >>> set_bits(5), sum(len(blocks(i)) for i in range(5))
    (5, 5)
    """
    return sum(
        (length >> (bit + 1) << bit) + max(0, length % (2 << bit) - (1 << bit))
        for bit in range(length.bit_length())
    )
