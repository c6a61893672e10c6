"""Cores without a model around them, and random queries and keys as their inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attentions import Attention, Geometry, build_attention
from bench.measuring.weights import NoWeights


@dataclass(frozen=True, kw_only=True)
class Size:
    """Sizes of a core and of its inputs."""

    num_heads: int = 4
    head_dim: int = 16
    num_tokens: int = 64
    causal: bool = False

    @property
    def geometry(self) -> Geometry:
        """Geometry that a core is built for; tokens lie on a grid where they make a square."""
        return Geometry(
            num_heads=self.num_heads,
            head_dim=self.head_dim,
            seq_len=self.num_tokens,
            causal=self.causal,
        )


def build_core(
    label: str, mechanism: str, hyperparameters: Mapping[str, Any], size: Size, seed: int = 0
) -> Attention:
    """A core in float64, for evaluation, its weights drawn under a seed.

    Raises:
        NoWeights: it owns its projections, or cannot be built for this size.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            core = build_attention(mechanism, size.geometry, **hyperparameters)
        except ValueError as error:
            raise NoWeights(f"{label} has no weights to look at: {error}") from error
    if not isinstance(core, Attention):
        raise NoWeights(f"{label} has no weights to look at: it owns its projections.")
    return core.double().eval()


def normal(size: Size, seed: int, purpose: int) -> Tensor:
    """(1, H, N, D) of unit variance in float64; `purpose` tells queries from keys."""
    stream = torch.Generator().manual_seed(1000 * seed + purpose)
    shape = (1, size.num_heads, size.num_tokens, size.head_dim)
    return torch.randn(shape, generator=stream, dtype=torch.float64)


def with_spread_norms(q: Tensor, norm: float, seed: int) -> Tensor:
    """The same directions, with norms spread about a median by a log-normal factor of 0.5."""
    stream = torch.Generator().manual_seed(seed)
    factor = torch.randn(q.shape[:-1], generator=stream, dtype=q.dtype).mul(0.5).exp()
    spread: Tensor = q / q.norm(dim=-1, keepdim=True) * (norm * factor)[..., None]
    return spread
