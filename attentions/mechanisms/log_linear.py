"""Log-linear attention: a decaying state for each block of a Fenwick tree."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..base import CallShape, Geometry
from ..capabilities import Capabilities, Gate
from ..checks import whole
from ..engines.state import StateCore
from ..maths.cache import room_for
from ..maths.chunks import padded_len, power_of_two_chunk
from ..maths.fenwick import (
    LevelState,
    blocks,
    levelled_attention,
    levelled_pairs,
    levels_of,
    merged,
    set_bits,
)
from ..maths.gates import HEAD_RATES, spread
from ..maths.shared_heads import for_every_query_head
from ..precision import wide_dtype, widen, within_range, without_autocast
from ..registry import register_attention

_ONE = 0.5413248546129181
"""softplus of it is 1."""


@register_attention(
    "log_linear",
    title="Log-linear attention (Mamba-2)",
    source="Guo et al., 2025, arXiv:2506.04761",
    family="recurrent",
    capabilities=Capabilities(
        bidirectional=False,
        causal=True,
        recurrent=True,
        masks=frozenset({"padding"}),
        gates={
            "log_decay": Gate("bhn", high=0),
            "level_scale": Gate("bhnl", low=0, query=True),
        },
        position_free=False,
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
        scale: factor of the queries; head_dim^(-1/2) if None.
    """

    def __init__(
        self, geometry: Geometry, num_levels: int | None = None, scale: float | None = 1.0
    ) -> None:
        super().__init__(geometry)
        levels = levels_of(geometry.seq_len) if num_levels is None else num_levels
        self.gate_axes = {"l": whole(self.name, "num_levels", levels, 1)}
        self.scale = self.checked_scale(scale)
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
        g = self.geometry
        sizes = (batch_size, g.num_heads, self.gate_axes["l"], g.head_dim, g.value_dim)
        return LevelState(torch.zeros(sizes, dtype=wide_dtype(dtype), device=device), 0)

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
        self._room(0, q.shape[2])
        if key_mask is None:
            return super().forward(q, k, v, **gates)
        with without_autocast(q.device.type):
            wide, *rest = self._inputs(q, k, v, key_mask, gates)
            k, v = (for_every_query_head(x, q.shape[1]) for x in rest[:2])
            places = (key_mask.cumsum(dim=-1) - 1).clamp(min=0)
            return within_range(levelled_pairs(wide, k, v, *rest[2:], places), q.dtype)

    def _room(self, length: int, more: int) -> None:
        room_for(self.name, 1 << (self.gate_axes["l"] - 1), length, more)

    def update(self, state: LevelState, k: Tensor, v: Tensor, g: Tensor, _: Tensor) -> LevelState:
        """Blocks that end here become one, all decay, and the token is a block of its own."""
        self._room(state.length, 1)
        levels = g.exp().unsqueeze(2) * merged(state.levels, state.length)
        levels = torch.cat(((k.mT @ v).unsqueeze(2), levels[:, :, 1:]), dim=2)
        return LevelState(levels, state.length + 1)

    def read(self, q: Tensor, state: LevelState, *gates: Tensor) -> Tensor:
        """A read of each block."""
        used = [0, *blocks(state.length - 1)]
        scaled = q.unsqueeze(2) * gates[1][..., used].mT.unsqueeze(-1)
        return (scaled @ state.levels[:, :, used]).sum(dim=2)

    def chunks(self, q: Tensor, k: Tensor, v: Tensor, *others: Any) -> tuple[Tensor, LevelState]:
        """The same, chunk by chunk; up to the start of one token by token."""
        *gates, state = others
        length = q.shape[2]
        self._room(state.length, length)
        first = min(length, -state.length % power_of_two_chunk(length))
        if first == 0:
            return levelled_attention(q, k, v, *gates, state)
        inputs = (q, k, v, gates[0].expand(-1, -1, length), gates[1])
        sizes = (first, length - first)
        lead, rest = zip(*(x.split(sizes, dim=2) for x in inputs), strict=True)
        out, state = self._one_by_one(*lead, state)
        if first == length:
            return out, state
        later, state = self.chunks(*rest, state)
        return torch.cat((out, later), dim=2), state

    def reference(self, q: Tensor, k: Tensor, v: Tensor, **gates: Tensor) -> Tensor:
        """All pairs, level after level."""
        return levelled_pairs(*self._inputs(q, k, v, None, gates))

    def flops(self, shape: CallShape) -> int:
        """A write, a read of the token itself and one of each block that a query has."""
        heads, length = shape.batch_size * shape.num_heads, shape.query_len
        return 2 * heads * shape.head_dim * shape.value_dim * (2 * length + set_bits(length))

    def executed_flops(self, shape: CallShape) -> int:
        """Pairs of whole chunks; blocks are read by a chunk, and written once."""
        size = power_of_two_chunk(shape.query_len)
        tokens, d, e = padded_len(shape.query_len, size), shape.head_dim, shape.value_dim
        last = shape.query_len - tokens + size
        matrices = tokens - size + last + size * set_bits(tokens // size)
        heads = 2 * shape.batch_size * shape.num_heads
        return heads * (tokens * size * (d + e) + matrices * d * e)

    def decode_flops(self, shape: CallShape) -> int:
        """A write, and a read of the blocks of the last place."""
        used = 2 + len(blocks(shape.key_len - 1))
        return 2 * shape.batch_size * shape.num_heads * shape.head_dim * shape.value_dim * used
