"""Log-linear attention: a decaying state for each block of a Fenwick tree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..base import Geometry
from ..capabilities import RECURRENT, Gate
from ..checks import positive, whole
from ..engines.state import StateCore
from ..maths.fenwick import (
    LevelState,
    after_token,
    levelled_attention,
    levelled_chunk_flops,
    levelled_flops,
    levelled_pairs,
    levelled_step_flops,
    levels_of,
    read_levels,
)
from ..maths.gates import HEAD_RATES, spread
from ..maths.shared_heads import for_every_query_head
from ..precision import widen, within_range, without_autocast
from ..registry import register_attention

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
