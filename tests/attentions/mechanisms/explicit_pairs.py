"""Mechanisms with a weight for each pair of tokens that no golden proves, from their formulas.

Each takes the core, for what it has learned, and (B, H, N, D), (B, H, M, D), (B, H, M, E) tensors.
"""

import math

import torch

from tests.attentions.mechanisms.explicit import scores, softmax


def seen(core, q, k):
    """True for the pairs that may be seen, (N, M)."""
    pairs = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool)
    return pairs.tril() if core.geometry.causal else pairs


def mean(core, phi_q, phi_k, v, eps):
    """The mean of values by products of features, eps added to the sum of weights."""
    weights = phi_q @ phi_k.mT * seen(core, phi_q, phi_k)
    return weights @ v / (weights.sum(-1, keepdim=True) + eps)


def sigmoid(core, q, k, v, bias=None, **tiles):
    bias = -math.log(core.geometry.seq_len) if bias is None else bias
    return (1 / (1 + (-scores(q, k) - bias).exp()) * seen(core, q, k)) @ v


def topk(core, q, k, v, /, **settings):
    """Softmax over the largest scores of those that may be seen."""
    found, kept = scores(q, k), seen(core, q, k)
    order = found.masked_fill(~kept, -torch.inf).argsort(-1, descending=True)
    return softmax(found, (order.argsort(-1) < settings["k"]) & kept, v)


def sliding_window(core, q, k, v, window):
    away = torch.arange(q.shape[2])[:, None] - torch.arange(k.shape[2])
    return softmax(scores(q, k), (away.abs() <= window) & seen(core, q, k), v)


def dpfp(core, q, k, v, nu=1, eps=1e-6):
    """Products of each rectified channel with its nu predecessors, around the corner."""
    q, k = (torch.cat((x.relu(), (-x).relu()), -1) for x in (q, k))
    q, k = (torch.cat([x * x.roll(s, -1) for s in range(1, nu + 1)], -1) for x in (q, k))
    return mean(core, q, k, v, eps)
