"""Entropy of attention against the norm of the queries: by a sweep, and over tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from attentions import Attention
from bench.measuring.weights import weights
from bench.studies.diagnostics.measures import entropy, rank_correlation, relative_entropy


@torch.no_grad()
def sweep_of_norms(core: Attention, q: Tensor, k: Tensor, norms: Sequence[float]) -> list[float]:
    """Mean of H / ln N at each norm, to which all queries are scaled at fixed directions.

    This isolates the norm: over the tokens of one input, norm and direction vary together.
    """
    directions = q / q.norm(dim=-1, keepdim=True)
    causal = core.geometry.causal
    return [
        relative_entropy(weights(core, norm * directions, k), causal=causal).mean().item()
        for norm in norms
    ]


@torch.no_grad()
def norm_correlation(core: Attention, q: Tensor, k: Tensor, **gates: Tensor) -> float:
    """Spearman's rho of entropy and norm over the tokens of each head, mean over heads.

    A head whose rows all have the same entropy counts as 0. A causal form uses the relative
    entropy, because later tokens see more keys.
    """
    w = weights(core, q, k, **gates)
    causal = core.geometry.causal
    found = relative_entropy(w, causal=True) if causal else entropy(w)
    lengths = q.norm(dim=-1).repeat(1, w.shape[1] // q.shape[1], 1)[..., -found.shape[-1] :]
    return rank_correlation(found, lengths).nan_to_num(0.0).mean().item()
