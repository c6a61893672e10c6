"""Random queries and keys that claims share, and numbers with intervals over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attentions import Attention, Geometry, build_attention
from bench.diagnostics.measures import mean_with_interval
from bench.diagnostics.weights import NoWeights
from bench.reproduce.stored import Row, entry_of


@dataclass(frozen=True, kw_only=True)
class Size:
    """Sizes of one head's attention, times the heads."""

    num_heads: int = 4
    head_dim: int = 16
    num_tokens: int = 64

    @property
    def geometry(self) -> Geometry:
        """What a core is built for; tokens lie on a grid where they make a square."""
        return Geometry(num_heads=self.num_heads, head_dim=self.head_dim, seq_len=self.num_tokens)


def core_of(entry: str, size: Size, seed: int = 0, **settings: object) -> Attention:
    """An entry of conf/attention in float64, for evaluation, its weights drawn under a seed.

    Raises:
        NoWeights: it owns its projections, or has no form in which queries see all keys.
    """
    chosen = entry_of("attention", entry) | settings
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            core = build_attention(chosen.pop("mechanism"), size.geometry, **chosen)
        except ValueError as error:
            raise NoWeights(f"{entry} has no weights to look at: {error}") from error
    if not isinstance(core, Attention):
        raise NoWeights(f"{entry} has no weights to look at: it owns its projections.")
    return core.double().eval()


def normal(size: Size, seed: int, purpose: int) -> Tensor:
    """(1, H, N, D) of unit variance; `purpose` tells queries from keys."""
    stream = torch.Generator().manual_seed(1000 * seed + purpose)
    shape = (1, size.num_heads, size.num_tokens, size.head_dim)
    return torch.randn(shape, generator=stream, dtype=torch.float64)


def row_over(name: str, samples: Sequence[float], *, most: float | None = None) -> Row:
    """A mean with its interval over seeds.

    Args:
        name: what was measured.
        samples: one a seed.
        most: of a score, the greatest that there is; its interval then ends there, and at 0.
    """
    mean, low, high = mean_with_interval(torch.tensor(samples, dtype=torch.float64))
    if most is not None:
        low, high = max(low, 0.0), min(high, most)
    return Row(name=name, value=mean, low=low, high=high)
