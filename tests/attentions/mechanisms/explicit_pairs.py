"""Mechanisms with a weight for each pair of tokens, written out from their formulas.

Each takes the core, for what it has learned, and (B, H, N, D), (B, H, M, D), (B, H, M, E) tensors.
"""

import math

import torch
from torch.nn import functional

from tests.attentions.mechanisms.explicit import scores, softmax


def seen(core, q, k):
    """True for the pairs that may be seen, (N, M)."""
    pairs = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool)
    return pairs.tril() if core.geometry.causal else pairs


def mean(core, phi_q, phi_k, v, eps):
    """The mean of values by products of features, eps added to the sum of weights."""
    weights = phi_q @ phi_k.mT * seen(core, phi_q, phi_k)
    return weights @ v / (weights.sum(-1, keepdim=True) + eps)


def attention(core, q, k, v, **tiles):
    return softmax(scores(q, k), seen(core, q, k), v)


def sigmoid(core, q, k, v, bias=None, **tiles):
    bias = -math.log(core.geometry.seq_len) if bias is None else bias
    return (1 / (1 + (-scores(q, k) - bias).exp()) * seen(core, q, k)) @ v


def inline(core, q, k, v):
    """Scores less their mean, plus one over the number of keys."""
    shares = scores(q, k) / k.shape[2]
    return (shares - shares.mean(-1, keepdim=True) + 1 / k.shape[2]) @ v


def efficient(core, q, k, v):
    """Shares of channels for a query, shares of tokens for a channel."""
    of_channels = q.exp() / q.exp().sum(-1, keepdim=True)
    of_tokens = k.exp() / k.exp().sum(-2, keepdim=True)
    return torch.einsum("bhnd,bhmd,bhme->bhne", of_channels, of_tokens, v)


def topk(core, q, k, v, /, **settings):
    """Softmax over the largest scores of those that may be seen."""
    found, kept = scores(q, k), seen(core, q, k)
    order = found.masked_fill(~kept, -torch.inf).argsort(-1, descending=True)
    return softmax(found, (order.argsort(-1) < settings["k"]) & kept, v)


def sliding_window(core, q, k, v, window):
    away = torch.arange(q.shape[2])[:, None] - torch.arange(k.shape[2])
    return softmax(scores(q, k), (away.abs() <= window) & seen(core, q, k), v)


def linear(core, q, k, v, eps=1e-6):
    q, k = (torch.where(x > 0, x + 1, x.exp()) for x in (q, k))
    return mean(core, q, k, v, eps)


def taylor(core, q, k, v, eps=1e-6, form="features"):
    s = scores(q, k)
    weights = (1 + s + s**2 / 2) * seen(core, q, k)
    return weights @ v / (weights.sum(-1, keepdim=True) + eps)


def cosformer(core, q, k, v, horizon=None, eps=1e-6):
    """Similarity of what is positive, times the cosine of the distance."""
    distance = (torch.arange(q.shape[2])[:, None] - torch.arange(k.shape[2])).to(q)
    fades = (math.pi / 2 * distance / (horizon or max(distance.shape))).cos()
    weights = q.relu() @ k.relu().mT * fades * seen(core, q, k)
    return weights @ v / weights.sum(-1, keepdim=True).clamp(min=eps)


def dpfp(core, q, k, v, nu=1, eps=1e-6):
    """Products of each rectified channel with its nu predecessors, around the corner."""
    q, k = (torch.cat((x.relu(), (-x).relu()), -1) for x in (q, k))
    q, k = (torch.cat([x * x.roll(s, -1) for s in range(1, nu + 1)], -1) for x in (q, k))
    return mean(core, q, k, v, eps)


def hedgehog(core, q, k, v, normaliser="separate"):
    """Exponentials of a learned map and of its opposite, by their sum together or apart."""
    q, k = (
        torch.einsum("hij,bhnj->bhni", learned.weight, x) + learned.bias[:, None]
        for learned, x in ((core.map_q, q), (core.map_k, k))
    )
    together = normaliser == "joint"
    pairs = [(2 * x, -2 * x) if together else (x, -x) for x in (q, k)]
    q, k = (
        torch.cat(pair, -1).softmax(-1)
        if together
        else torch.cat([x.softmax(-1) for x in pair], -1)
        for pair in pairs
    )
    return mean(core, q, k, v, core.eps)


def performer(core, q, k, v, kernel, num_features, eps=1e-3):
    """Features of the paper: of each query by its own largest, of keys by that of all."""
    c = q.shape[-1] ** -0.25
    q, k, squares = (
        *(c * x @ core.projection.T for x in (q, k)),
        [c**2 * x.square() for x in (q, k)],
    )
    if kernel == "relu":
        return mean(core, q.relu() + eps, k.relu() + eps, v, 0)
    half_q, half_k = (x.sum(-1, keepdim=True) / 2 for x in squares)
    q = (q - half_q - q.amax(-1, keepdim=True)).exp() + eps
    return mean(core, q, (k - half_k - k.amax((-2, -1), keepdim=True)).exp() + eps, v, 0)


def turned(x, angles):
    """Each pair of adjacent channels by its own angle; both channels of a pair have it."""
    a, b = x[..., ::2], x[..., 1::2]
    cos, sin = angles[..., ::2].cos(), angles[..., ::2].sin()
    return torch.stack((a * cos - b * sin, b * cos + a * sin), -1).flatten(-2)


def nala(core, q, k, v, lam=3.0, tau=0.5, key_power=3.0, eps=1e-6, angles=None):
    """Like signs weigh each other; ``angles``, (N, D), turn features, and not those of the sum."""
    norm = q.norm(dim=-1, keepdim=True)
    p, weights, numerator = lam * (tau + norm.tanh()), 0.0, 0.0
    for sign in (1, -1):
        phi_q, phi_k = (sign * q / norm).clamp(min=0) ** p, (sign * k).clamp(min=0) ** key_power
        weights = weights + phi_q @ phi_k.mT
        if angles is not None:
            phi_q, phi_k = turned(phi_q, angles), turned(phi_k, angles)
        numerator = numerator + phi_q @ phi_k.mT
    return numerator @ v / k.shape[2] / (weights.mean(-1, keepdim=True) + eps)


def nala_cosine(core, q, k, v, alpha=20.0, lam=3.0, tau=0.5, key_power=3.0, eps=1e-6):
    """Eq. 16: each channel of each pair weighs |d(q)|^p |k|^key_power cos(theta(q) - theta(k))."""
    d_q, d_k = (x / x.norm(dim=-1, keepdim=True) for x in (q, k))
    p = lam * (tau + q.norm(dim=-1, keepdim=True).tanh())
    theta_q, theta_k = (math.pi / 4 * (alpha * d).tanh() for d in (d_q, d_k))
    cosines = (theta_q[..., :, None, :] - theta_k[..., None, :, :]).cos()
    weights = torch.einsum("bhnd,bhmd,bhnmd->bhnm", d_q.abs() ** p, k.abs() ** key_power, cosines)
    return weights @ v / k.shape[2] / (weights.mean(-1, keepdim=True) + eps)


def polaformer(core, q, k, v, eps=1e-6):
    """Half of the values by like signs and the others by unlike ones, each by a mean of its own."""
    power = (1 + 4 * core.power.sigmoid())[:, None]
    scale = (1 + core.scale.exp()).log().view_as(power)
    (q_plus, q_minus), (k_plus, k_minus) = (
        [(sign * x / scale).clamp(min=0) ** power for sign in (1, -1)] for x in (q, k)
    )
    like = (q_plus @ k_plus.mT + q_minus @ k_minus.mT) / k.shape[2]
    unlike = (q_plus @ k_minus.mT + q_minus @ k_plus.mT) / k.shape[2]
    first = -(-v.shape[-1] // 2)
    halves = ((like, v[..., :first]), (unlike, v[..., first:]))
    return torch.cat([w @ x / (w.sum(-1, keepdim=True) + eps) for w, x in halves], -1)


def flatten(core, q, k, v, focusing_factor=3, norm_over="all_heads"):
    """Powers of positive features that keep the length of a token, or of a head of it."""
    over = (1, 3) if norm_over == "all_heads" else (3,)
    scale = functional.softplus(core.scale).view(q.shape[1], 1, q.shape[3])

    def phi(x):
        x = (x.clamp(min=0) + 1e-6) / scale
        power = x**focusing_factor
        return power * x.norm(dim=over, keepdim=True) / power.norm(dim=over, keepdim=True)

    weights = phi(q) @ phi(k).mT / k.shape[2]
    return weights @ v / (weights.sum(-1, keepdim=True) + 1e-6)


def linformer(core, q, k, v, projected_len, share_kv=False):
    """Softmax over projected rows of keys and values."""
    of_keys = core.proj_k[: k.shape[2]].T
    of_values = of_keys if share_kv else core.proj_v[: v.shape[2]].T
    return scores(q, of_keys @ k).softmax(-1) @ (of_values @ v)
