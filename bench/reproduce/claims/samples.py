"""Entries of conf/attention as cores, and numbers with intervals over seeds."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from attentions import Attention
from bench.diagnostics.measures import mean_with_interval
from bench.diagnostics.samples import Size, build_core
from bench.reproduce.stored import Row, entry_of


def core_of(entry: str, size: Size, seed: int = 0, **settings: object) -> Attention:
    """An entry of conf/attention in float64, for evaluation, its weights drawn under a seed.

    Raises:
        NoWeights: it owns its projections, or has no form in which queries see all keys.
    """
    chosen = entry_of("attention", entry) | settings
    return build_core(entry, chosen.pop("mechanism"), chosen, size, seed)


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
