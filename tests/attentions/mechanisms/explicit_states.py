"""Recurrences of 2024 to 2026 written out from their formulas, slowly; (B, H, N, D) throughout."""

import torch

from tests.attentions.mechanisms.explicit import between, kda, outer, unrolled


def gated_deltanet2(q, k, v, log_decay, erase, write):
    """S_t = (I - k (b * k)^T) diag(exp g) S + k (w * v)^T."""
    identity = torch.eye(q.shape[-1], dtype=q.dtype)

    def step(t):
        key = k[:, :, t]
        left = identity - outer(key, erase[:, :, t] * key)
        left = left @ torch.diag_embed(log_decay[:, :, t].exp())
        return left, outer(key, write[:, :, t] * v[:, :, t])

    return unrolled(step, q, v, q.shape[-1] ** -0.5)


def comba(q, k, v, beta, log_decay, removal_key):
    """S_t = (exp(g) I - beta k p^T) S + beta k v^T."""
    identity = torch.eye(q.shape[-1], dtype=q.dtype)

    def step(t):
        strength, key = beta[:, :, t, None, None], k[:, :, t]
        left = identity * log_decay[:, :, t, None, None].exp()
        left = left - strength * outer(key, removal_key[:, :, t])
        return left, strength * outer(key, v[:, :, t])

    return unrolled(step, q, v, q.shape[-1] ** -0.5)


def by_channel(log_decay):
    """(B, H, N, M) -> (B, H, N, N, M): exp(g_(j+1) + ... + g_i) for j <= i, else 0."""
    return torch.stack([between(g).exp() for g in log_decay.unbind(-1)], -1)


def gsa(q, k, v, log_decay, slot):
    """Softmax over slots of what the query finds there, then a read of their values."""
    pairs = by_channel(log_decay) * slot[:, :, None]
    found = torch.einsum("bhij,bhijm->bhim", q @ k.mT / q.shape[-1] ** 0.5, pairs)
    return torch.einsum("bhim,bhijm,bhje->bhie", found.softmax(-1), pairs, v)


def rwkv6(q, k, v, log_decay, *, bonus):
    """Decays of j + 1 to i - 1 between two tokens, and the bonus on the diagonal."""
    until = by_channel(log_decay)
    before = torch.cat((torch.zeros_like(until[:, :, :1]), until[:, :, :-1]), 2)
    weights = torch.einsum("bhid,bhijd,bhjd->bhij", q, before, k).tril(-1)
    return weights @ v + (q * bonus[:, None] * k).sum(-1, keepdim=True) * v


def mesanet(q, k, v, beta, log_decay, *, ridge, steps=None):
    """M_t^T (H_t + ridge)^-1 q_t, or so many steps of conjugate gradients, token by token."""
    pairs, out = between(log_decay).exp() * beta[:, :, None], []
    for t in range(q.shape[2]):
        weight = pairs[:, :, t, :, None]
        gram = (weight * k).mT @ k + torch.diag_embed(ridge)
        x, r = torch.zeros_like(q[:, :, t, :, None]), q[:, :, t, :, None]
        if steps is None:
            x = torch.linalg.inv(gram) @ r
        p, rr = r, r.mT @ r
        for _ in range(steps or 0):
            a = rr / (p.mT @ gram @ p + 1e-5)
            x, r = x + a * p, r - a * gram @ p
            p, rr = r + r.mT @ r / (rr + 1e-5) * p, r.mT @ r
        out.append(x.mT @ (weight * k).mT @ v)
    return torch.cat(out, 2)


def mamba3(q, k, v, log_decay, step, trapezoid, angle, *, q_bias, k_bias, skip):
    """The recurrence with both writes, and matrices that turn pairs of channels."""
    state = q.new_zeros(*q.shape[:2], q.shape[-1], v.shape[-1])
    out, b, value, total = [], torch.zeros_like(k[:, :, 0]), torch.zeros_like(v[:, :, 0]), 0.0
    for t in range(q.shape[2]):
        h, tau = step[:, :, t, None, None], trapezoid[:, :, t, None, None]
        total = total + step[:, :, t, None] * angle[:, :, t]
        turn = torch.eye(q.shape[-1], dtype=q.dtype).repeat(*q.shape[:2], 1, 1)
        for a in range(angle.shape[-1]):
            c, s = total[..., a].cos(), total[..., a].sin()
            rows = torch.stack((torch.stack((c, -s), -1), torch.stack((s, c), -1)), -2)
            turn[:, :, 2 * a : 2 * a + 2, 2 * a : 2 * a + 2] = rows
        state = log_decay[:, :, t, None, None].exp() * (state + (1 - tau) * h * outer(b, value))
        b, value = ((k[:, :, t] + k_bias)[:, :, None] @ turn.mT)[:, :, 0], v[:, :, t]
        state = state + tau * h * outer(b, value)
        query = (q[:, :, t] + q_bias)[:, :, None] @ turn.mT
        out.append((query @ state)[:, :, 0] + skip[:, None] * value)
    return torch.stack(out, 2)


def log_linear(q, k, v, log_decay, level_scale):
    """A pair is on level 0 if it is one token, else on that of the highest bit that differs."""
    n = q.shape[2]
    level = [[(i ^ j).bit_length() if j <= i else 0 for j in range(n)] for i in range(n)]
    scale = level_scale.gather(-1, torch.tensor(level).expand(*q.shape[:2], n, n))
    return (q @ k.mT * between(log_decay).exp() * scale) @ v


def decayed(q, k, v, log_decay=None, scale=None):
    """S_t = exp(g) S + k v^T, for decays of channels, of heads, or none."""
    log_decay = torch.zeros_like(k) if log_decay is None else log_decay
    rates = log_decay if log_decay.dim() == 4 else log_decay[..., None].expand_as(k)

    def step(t):
        return torch.diag_embed(rates[:, :, t].exp()), outer(k[:, :, t], v[:, :, t])

    return unrolled(step, q, v, q.shape[-1] ** -0.5 if scale is None else scale)


def by_head(decays, q, k, v, scale=None):
    """As `decayed`, with a decay of each head that never changes."""
    return decayed(q, k, v, decays[:, None].expand(q.shape[:3]), scale)


def unit(k):
    return k * (k.square().sum(-1, keepdim=True) + 1e-6) ** -0.5


def gated_deltanet(q, k, v, beta, log_decay=None, normalised=True):
    """KDA with one decay for all channels of a head, or none, and keys of length one."""
    k = unit(k) if normalised else k
    log_decay = torch.zeros_like(beta) if log_decay is None else log_decay
    return kda(q, k, v, beta, log_decay[..., None].expand_as(k))
