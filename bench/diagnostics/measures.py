"""Numbers that describe attention weights. Pure functions of tensors.

Weights are (..., N, M), a row per query, as `bench.diagnostics.weights.weights` gives them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bench.statistics import mean_interval


def entropy(weights: Tensor, *, relative: bool = False) -> Tensor:
    """Entropy of each row in nats, (..., N): 0 where one key has all the weight, ln M if all share.

    Of the shares |w| / sum |w|: for weights without negative ones, this is the PSE of Meng et al.,
    2025 (NaLaFormer, arXiv:2506.21137), which does not need rows that sum to 1. NaN for a row of
    zeros.

    Args:
        weights: (..., N, M).
        relative: divide by ln M, so that a uniform row has 1.
    """
    sizes = weights.abs()
    shares = sizes / sizes.sum(dim=-1, keepdim=True)
    nats: Tensor = torch.special.entr(shares).sum(dim=-1)
    return nats / math.log(weights.shape[-1]) if relative else nats


def effective_rank(weights: Tensor) -> Tensor:
    """How many directions the matrix has, (...): exp of the entropy of its singular values' shares.

    From 1 to min(N, M); Roy and Vetterli, 2007. NaN for a matrix of zeros.
    """
    values = torch.linalg.svdvals(weights)
    shares = values / values.sum(dim=-1, keepdim=True)
    found: Tensor = torch.special.entr(shares).sum(dim=-1).exp()
    return found


def rank(weights: Tensor) -> Tensor:
    """The number of singular values above rounding errors, (...), as `torch.linalg.matrix_rank`."""
    found: Tensor = torch.linalg.matrix_rank(weights)
    return found


def row_sums(weights: Tensor) -> Tensor:
    """Of each query, (..., N): 1 where the output is an average of values."""
    return weights.sum(dim=-1)


def share_negative(weights: Tensor) -> float:
    """The share of all weights that are below zero."""
    return (weights < 0).double().mean().item()


def rank_correlation(x: Tensor, y: Tensor) -> Tensor:
    """Spearman's rho along the last dimension, (...); ties share their mean rank.

    NaN where all of one side are equal.
    """
    a, b = _ranks(x), _ranks(y)
    a = a - a.mean(dim=-1, keepdim=True)
    b = b - b.mean(dim=-1, keepdim=True)
    return (a * b).sum(dim=-1) / (a.square().sum(dim=-1) * b.square().sum(dim=-1)).sqrt()


def _ranks(x: Tensor) -> Tensor:
    """Half of (those below + those not above): the mean rank among equals."""
    pairs = x.unsqueeze(-1), x.unsqueeze(-2)
    return ((pairs[0] > pairs[1]).double() + (pairs[0] >= pairs[1]).double()).sum(dim=-1) / 2


def mean_with_interval(samples: Tensor) -> tuple[float, float, float]:
    """The mean of independent samples with its 95 % interval: (mean, low, high).

    Raises:
        ValueError: fewer than two samples.
    """
    values = samples.flatten().tolist()
    interval = mean_interval(values)
    if interval is None:
        raise ValueError(f"{len(values)} samples have no interval; two or more are needed.")
    return sum(values) / len(values), *interval
