"""Numbers that describe attention weights. Pure functions of tensors.

Weights are (..., N, M), a row per query, as `bench.measuring.weights.weights` gives them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def entropy(weights: Tensor, *, relative: bool = False) -> Tensor:
    """Entropy of each row in nats, (..., N): 0 where one key has all the weight, ln M if all share.

    It is that of the shares |w| / sum |w|: without negative weights, this is the PSE of Meng et
    al., 2025 (NaLaFormer, arXiv:2506.21137), which does not need rows that sum to 1. NaN for a row
    of zeros.

    Args:
        weights: (..., N, M).
        relative: divide by ln M, so that a uniform row has 1.
    """
    nats: Tensor = torch.special.entr(_shares(weights)).sum(dim=-1)
    return nats / math.log(weights.shape[-1]) if relative else nats


def relative_entropy(weights: Tensor, *, causal: bool = False) -> Tensor:
    """Entropy over that of a uniform row, 0 to 1: (..., N), or (..., N - 1) if causal.

    A causal row is compared with a uniform one over the keys that it sees. The first row sees only
    one key, and is left out.
    """
    if not causal:
        return entropy(weights, relative=True)
    num_keys = torch.arange(2, weights.shape[-1] + 1, dtype=weights.dtype, device=weights.device)
    found: Tensor = entropy(weights)[..., 1:] / num_keys.log()
    return found


def mean_distance(weights: Tensor) -> Tensor:
    """Mean distance |i - j| of a row's keys in tokens, weighted by the shares of |w|, (..., N).

    A uniform row in the middle has about N / 4, and the mean over all uniform rows is N / 3.
    """
    num_queries, num_keys = weights.shape[-2:]
    queries = torch.arange(num_queries, dtype=weights.dtype, device=weights.device)
    keys = torch.arange(num_keys, dtype=weights.dtype, device=weights.device)
    found: Tensor = (_shares(weights) * (queries[:, None] - keys).abs()).sum(dim=-1)
    return found


def sink_mass(weights: Tensor) -> Tensor:
    """Mean share of |w| over rows for the key with the largest, (...): from 1 / M to 1."""
    return _shares(weights).mean(dim=-2).amax(dim=-1)


def condition_of_sum(weights: Tensor) -> Tensor:
    """The condition number of each row's sum, (..., N): sum |w| / |sum w|.

    A normaliser divides by this sum. The number is 1 where nothing cancels; elsewhere, errors of
    the weights grow by this factor.
    """
    found: Tensor = weights.abs().sum(dim=-1) / weights.sum(dim=-1).abs()
    return found


def relative_error(weights: Tensor, target: Tensor) -> Tensor:
    """||W - target|| / ||target|| in the Frobenius norm, (...)."""
    error: Tensor = torch.linalg.matrix_norm(weights - target)
    found: Tensor = error / torch.linalg.matrix_norm(target)
    return found


def divergence(weights: Tensor, target: Tensor) -> Tensor:
    """Kullback-Leibler divergence KL(weights || target) of each row's shares in nats, (..., N).

    In this direction it is finite where weights are zero. NaN in a matrix with a negative weight.
    """
    p, q = _shares(weights), _shares(target)
    nats = torch.where(p > 0, p * (p / q).log(), 0.0).sum(dim=-1)
    is_negative = (weights < 0).any(dim=-1).any(dim=-1)[..., None]
    return nats.masked_fill(is_negative, math.nan)


def _shares(weights: Tensor) -> Tensor:
    sizes = weights.abs()
    return sizes / sizes.sum(dim=-1, keepdim=True)


def effective_rank(weights: Tensor) -> Tensor:
    """Effective rank, (...): exp of the entropy of the singular values' shares.

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
    """Sum of each query's weights, (..., N): 1 where the output is an average of values."""
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
