"""Multi-head attention around any core: the same projections for all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from .base import Attention, AttentionLayer, CallShape, Geometry, Mechanism
from .inputs import check_tokens
from .maths.heads import merge_heads, split_heads
from .registry import build_attention


class MultiHeadAttention(nn.Module):
    """Project to q, k and v, mix with any core, project back: (B, N, C) -> (B, N, C).

    Every core gets the same two Linears, so none wins by a leaner projection.

    >>> from attentions import Geometry, MultiHeadAttention, build_attention
    >>> core = build_attention("nala", Geometry(num_heads=4, head_dim=8, seq_len=49))
    >>> layer = MultiHeadAttention(core)
    >>> layer(torch.randn(2, 49, 32)).shape
    torch.Size([2, 49, 32])

    Args:
        core: the mixing step; its geometry says how wide the projections are.
        bias: whether both Linears have one.
    """

    def __init__(self, core: Attention, *, bias: bool = True) -> None:
        super().__init__()
        geometry = core.geometry
        self.core = core
        self.geometry = geometry
        self.widths = [
            geometry.embed_dim,
            geometry.num_kv_heads * geometry.head_dim,
            (geometry.num_value_heads or geometry.num_kv_heads) * geometry.value_dim,
        ]
        self.mixed_width = (geometry.num_value_heads or geometry.num_heads) * geometry.value_dim
        self.qkv = nn.Linear(geometry.embed_dim, sum(self.widths), bias=bias)
        self.proj = nn.Linear(self.mixed_width, geometry.embed_dim, bias=bias)

    def forward(self, x: Tensor, **gates: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C); ``gates`` go on to a core that takes them.

        Raises:
            ValueError: tokens that do not fit the core's geometry, or are of another dtype; a gate
                that the core does not take.
        """
        self._check(x)
        q, k, v = self._project(x)
        return self.proj(merge_heads(self.core(q, k, v, **gates)))  # type: ignore[no-any-return]

    def init_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> Any:
        """The core's empty state."""
        return self.core.init_state(batch_size, dtype=dtype, device=device)

    def step(self, x: Tensor, state: Any, **gates: Tensor) -> tuple[Tensor, Any]:
        """The next T tokens: (B, T, C), state -> (B, T, C), state; ``gates`` are those of a core.

        >>> from attentions import Geometry, build_layer
        >>> geometry = Geometry(num_heads=4, head_dim=8, seq_len=9, causal=True)
        >>> layer = build_layer("gla", geometry)
        >>> x, log_decay = torch.randn(1, 9, 32), -torch.rand(1, 4, 9, 8)
        >>> state = layer.init_state(1, dtype=x.dtype, device=x.device)
        >>> prompt, state = layer.step(x[:, :8], state, log_decay=log_decay[:, :, :8])
        >>> last, state = layer.step(x[:, 8:], state, log_decay=log_decay[:, :, 8:])
        >>> torch.allclose(last, layer(x, log_decay=log_decay)[:, 8:], atol=1e-5)
        True
        """
        self._check(x)
        q, k, v = self._project(x)
        mixed, state = self.core.step(q, k, v, state, **gates)
        return self.proj(merge_heads(mixed)), state

    def _check(self, x: Tensor) -> None:
        if not torch.compiler.is_compiling():
            dtypes = self.core.capabilities.dtypes
            check_tokens(self.core.name, self.geometry, dtypes, x, self.parameters())

    def _project(self, x: Tensor) -> list[Tensor]:
        g = self.geometry
        parts = self.qkv(x).split(self.widths, dim=-1)
        counts = (g.num_heads, g.num_kv_heads, g.num_value_heads or g.num_kv_heads)
        heads = [split_heads(part, count) for part, count in zip(parts, counts, strict=True)]
        if self.core.capabilities.memory_layout == "bhnd":
            return [part.contiguous() for part in heads]
        return heads

    def reference(self, x: Tensor, **gates: Tensor) -> Tensor | None:
        """`forward` around the core's slow form; None if the core has none."""
        q, k, v = self._project(x)
        mixed = self.core.reference(q, k, v, **gates)
        return None if mixed is None else self.proj(merge_heads(mixed))

    def _projection_flops(self, shape: CallShape) -> int:
        tokens = shape.batch_size * shape.query_len
        return 2 * tokens * self.geometry.embed_dim * (sum(self.widths) + self.mixed_width)

    def flops(self, shape: CallShape) -> int:
        """Both projections and the core."""
        return self._projection_flops(shape) + self.core.flops(shape)

    def executed_flops(self, shape: CallShape) -> int:
        """Both projections and what the core executes."""
        return self._projection_flops(shape) + self.core.executed_flops(shape)

    def decode_flops(self, shape: CallShape) -> int:
        """Both projections of one token, and the core's step."""
        one = replace(shape, query_len=1)
        return self._projection_flops(one) + self.core.decode_flops(shape)


def build_layer(
    name: str, geometry: Geometry, **settings: Any
) -> AttentionLayer | MultiHeadAttention:
    """Any mechanism as a layer: its own if it is one, else `MultiHeadAttention` around it.

    >>> from attentions import Geometry, build_layer
    >>> geometry = Geometry(num_heads=4, head_dim=8, seq_len=49)
    >>> type(build_layer("nala", geometry)).__name__
    'MultiHeadAttention'
    >>> type(build_layer("nala_layer", geometry)).__name__
    'NalaLayer'

    Raises:
        ValueError: as `build_attention`.
        TypeError: a hyperparameter that the mechanism does not take.
    """
    mechanism: Mechanism = build_attention(name, geometry, **settings)
    if isinstance(mechanism, AttentionLayer):
        return mechanism
    assert isinstance(mechanism, Attention)
    return MultiHeadAttention(mechanism)
