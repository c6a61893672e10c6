"""Log-linear attention: a decaying state for each block of a Fenwick tree.

    out_i = sum_(j <= i) scale_i[level(i, j)] exp(g_{j+1} + ... + g_i) (q_i . k_j) v_j

Level 0 is the token itself. Level l >= 1 of query i is the block of 2^(l-1) tokens that ends where
i, without its l - 1 lowest bits, begins; there is one if bit l - 1 of i is set. These blocks, of a
Fenwick tree, are all tokens before i. Each has a state, and a state of a level is a sum of those of
lower ones. Two tokens are on the level of the highest bit in which their places differ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..base import CallShape, Geometry
from ..capabilities import RECURRENT, Gate
from ..checks import positive, whole
from ..engines.state import StateCore
from ..maths.pairs.cache import room_for
from ..maths.recurrences.chunks import in_chunks, padded_len, power_of_two_chunk
from ..maths.recurrences.decay import chunk_decays
from ..maths.recurrences.gates import HEAD_RATES, spread
from ..maths.shared_heads import for_every_query_head
from ..precision import widen, within_range, without_autocast
from ..registry import register_attention


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


def after_token(state: LevelState, k: Tensor, v: Tensor, log_decay: Tensor) -> LevelState:
    """Blocks that end here become one, all decay, and the token is a block of its own."""
    _check_room(state.levels.shape[2], state.length, 1)
    levels = log_decay.exp().unsqueeze(2) * merged(state.levels, state.length)
    levels = torch.cat(((k.mT @ v).unsqueeze(2), levels[:, :, 1:]), dim=2)
    return LevelState(levels, state.length + 1)


def read_levels(q: Tensor, scale: Tensor, state: LevelState) -> Tensor:
    """A read of each block that the last token has: (B, H, 1, D), (B, H, 1, L) -> (B, H, 1, E)."""
    used = [0, *blocks(state.length - 1)]
    scaled = q.unsqueeze(2) * scale[..., used].mT.unsqueeze(-1)
    return (scaled @ state.levels[:, :, used]).sum(dim=2)


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
        state: before the first token.

    Returns:
        The output, (B, H, N, E), and the state after the last token.
    """
    length, past = q.shape[2], state.length
    _check_room(state.levels.shape[2], past, length)
    size, first = power_of_two_chunk(length), past & -past
    if 0 < first < size:  # blocks of a chunk that begins elsewhere would not be those of the tree
        inputs = (q, k, v, log_decay.expand(-1, -1, length), scale)
        parts = []
        for some in (slice(first), slice(first, None)):
            now, before, values, decay, scales = (x[:, :, some] for x in inputs)
            out, state = levelled_attention(now, before, values, decay, scales, state)
            parts.append(out)
        return torch.cat(parts, dim=2), state
    depth = size.bit_length()  # levels within a chunk
    from_start, to_end, between = chunk_decays(log_decay, length, size, q.dtype)
    last = (length - 1) % size
    q, k, v, scale = (in_chunks(x, size) for x in (q, k, v, scale.to(q.dtype)))
    within = scale[..., :depth].gather(-1, _levels(size, q.device).expand(*scale.shape[:-1], size))
    outputs = [*((q @ k.mT) * between * within @ v).unbind(2)]
    q, keys = q * from_start, (k * to_end).mT
    levels = merged(state.levels, past).unbind(2)
    above = {level: levels[level] for level in blocks(past) if level >= depth}
    for c in range(len(outputs)):
        for level, block in above.items():
            outputs[c] = outputs[c] + (q[:, :, c] * scale[:, :, c, :, level : level + 1]) @ block
        left = from_start[:, :, c, -1:]
        above = {level: left * block for level, block in above.items()}
        if c < len(outputs) - 1:
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
    out = torch.stack(outputs, dim=2)
    return out.flatten(2, 3)[:, :, :length], LevelState(after, past + length)


def _check_room(num_levels: int, length: int, more: int) -> None:
    room_for("log_linear", 1 << (num_levels - 1), length, more)


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
    *,
    places: Tensor | None,
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
    _check_room(scale.shape[-1], 0, length)
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


def levelled_flops(shape: CallShape) -> int:
    """A write, a read of the token itself and one of each block that a query has.

    Or those of `levelled_attention`, where pairs within chunks are fewer than so many reads.
    """
    by_state = _products(shape, 2 * shape.query_len + set_bits(shape.query_len))
    return min(by_state, levelled_chunk_flops(shape))


def levelled_chunk_flops(shape: CallShape) -> int:
    """Count `levelled_attention`: pairs of whole chunks, each of which reads its blocks."""
    size = power_of_two_chunk(shape.query_len)
    tokens, num_heads = padded_len(shape.query_len, size), shape.batch_size * shape.num_heads
    pairs = 2 * num_heads * tokens * size * (shape.head_dim + shape.value_dim)
    return pairs + _products(shape, shape.query_len + size * set_bits(tokens // size))


def levelled_step_flops(shape: CallShape) -> int:
    """A write, and a read of the blocks of the last place."""
    return _products(shape, 2 + len(blocks(shape.key_len - 1)))


def _products(shape: CallShape, count: int) -> int:
    """So many outer products, or products of a vector with a state, in each head."""
    return 2 * count * shape.batch_size * shape.num_heads * shape.head_dim * shape.value_dim


_ONE = 0.5413248546129181
"""softplus of it is 1."""


@register_attention(
    "log_linear",
    title="Log-linear attention (Mamba-2)",
    source="Guo et al., 2025, arXiv:2506.04761",
    family="recurrent",
    capabilities=replace(
        RECURRENT,
        gates={
            "log_decay": Gate("bhn", high=0, activation="step"),
            "level_scale": Gate("bhnl", low=0, query=True),
        },
    ),
)
class LogLinear(StateCore):
    """`simple_gla` whose past is cut into blocks that double, each with a scale of its own.

        out_i = sum_(j <= i) scale_i[l(i, j)] exp(g_{j+1} + ... + g_i) (q_i . k_j) v_j
        l(i, i) = 0        l(i, j) = 1 + floor(log2(i xor j))

    Query i has a block of 2^(l-1) tokens on level l if bit l - 1 of i is set, the near past in
    small blocks and the far past in large ones. ``log_decay``, (B, H, N), is g and ``level_scale``,
    (B, H, N, L), the query's scales of L = ceil(log2(seq_len)) + 1 levels. Without them each head
    has values that are learned: -exp(log_rate), from 0.001 to 1.6 per token, and
    softplus(level_logit), starting at 1, which is `simple_gla`.

    The state holds L matrices, of which about half are in use. Hidden tokens have no place in the
    tree, as if they were removed. A query whose keys are all hidden gets zeros.

    Hazards:
        - Without a normaliser outputs grow with the number of tokens.
        - Weights per level fix the largest number of tokens, 2^(L-1): more are refused.
        - With a ``key_mask`` all N x N pairs are written out.

    Differences:
        - Authors' layer, Mamba-2's with level_scale = softplus(l * W x), has 15 levels at any
          length.
        - Their partition into other blocks ("strong") and their form of `gated_deltanet` are not
          here.

    Args:
        geometry: the shape to build for; causal.
        num_levels: L; as many as seq_len needs if None.
        scale: factor of the queries; 1, not head_dim^(-1/2), as the paper has none.
    """

    chunks = staticmethod(levelled_attention)
    flops = staticmethod(levelled_flops)
    executed_flops = staticmethod(levelled_chunk_flops)
    decode_flops = staticmethod(levelled_step_flops)

    def __init__(
        self, geometry: Geometry, num_levels: int | None = None, scale: float = 1.0
    ) -> None:
        super().__init__(geometry)
        levels = levels_of(geometry.seq_len) if num_levels is None else num_levels
        self.gate_axes = {"l": whole(self.name, "num_levels", levels, 1)}
        self.scale = positive(self.name, "scale", scale)
        self.log_rate = nn.Parameter(spread(HEAD_RATES, geometry.num_heads).log())
        self.level_logit = nn.Parameter(torch.full((geometry.num_heads, levels), _ONE))

    def learned_gates(self, k: Tensor) -> dict[str, Tensor]:
        """One decay per head, one scale per level."""
        scale = functional.softplus(widen(self.level_logit))
        return {"log_decay": -widen(self.log_rate).exp(), "level_scale": scale}

    def init_state(
        self, batch_size: int, *, dtype: torch.dtype, device: torch.device
    ) -> LevelState:
        """Zeros, (B, H, L, D, E); float32 for half inputs."""
        one: Tensor = super().init_state(batch_size, dtype=dtype, device=device)
        return LevelState(one.unsqueeze(2).repeat(1, 1, self.gate_axes["l"], 1, 1), 0)

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        key_mask: Tensor | None = None,
        **gates: Tensor | None,
    ) -> Tensor:
        """(B, H, N, D), (B, H_kv, N, D), (B, H_kv, N, E) -> (B, H, N, E)."""
        if key_mask is None:
            return super().forward(q, k, v, **gates)
        with without_autocast(q.device.type):
            inputs = self._inputs(q, k, v, key_mask, gates)
            inputs = [for_every_query_head(x, q.shape[1]) for x in inputs]
            places = (key_mask.cumsum(dim=-1) - 1).clamp(min=0)
            return within_range(levelled_pairs(*inputs, places=places), q.dtype)

    def _run(
        self, key_mask: Tensor | None, *, one: bool = False
    ) -> Callable[..., tuple[Tensor, Any]]:
        if key_mask is not None:
            raise ValueError(
                f"{self.name}: key_mask was given for a step; a state has one place in the tree "
                "for all its rows, so steps need sequences of one length, or a state for each."
            )
        return super()._run(None, one=one)

    def update(self, state: LevelState, k: Tensor, v: Tensor, g: Tensor, _: Tensor) -> LevelState:
        """Decay, and a block more."""
        return after_token(state, k, v, g)

    def read(self, q: Tensor, state: LevelState, *gates: Tensor) -> Tensor:
        """A read of each block."""
        return read_levels(q, gates[1], state)

    def reference(self, q: Tensor, k: Tensor, v: Tensor, **gates: Tensor) -> Tensor:
        """All pairs, level after level."""
        return levelled_pairs(*self._inputs(q, k, v, None, gates), places=None)
