"""Mechanisms of 2024 to 2026 written out from their formulas, slowly; (B, H, N, D) throughout."""

import torch


def seen(n, window=None):
    """True for the keys that a query sees: itself and those before it, ``window`` in all."""
    i, j = torch.arange(n)[:, None], torch.arange(n)
    return (j <= i) & (i - j < (window or n))


def between(log_decay):
    """(B, H, N) -> (B, H, N, N): g_(j+1) + ... + g_i, summed term by term; -inf for later keys."""
    n = log_decay.shape[-1]
    i, j, t = torch.arange(n)[:, None, None], torch.arange(n)[None, :, None], torch.arange(n)
    terms = ((t > j) & (t <= i)).to(log_decay.dtype)
    sums = torch.einsum("ijt,bht->bhij", terms, log_decay)
    return sums.masked_fill(~seen(n), -torch.inf)


def softmax(scores, kept, v):
    return scores.masked_fill(~kept, -torch.inf).softmax(-1) @ v


def scores(q, k):
    return q @ k.mT / q.shape[-1] ** 0.5


def outer(a, b):
    return a[..., :, None] * b[..., None, :]


def unrolled(step, q, v, scale=1.0):
    """Outputs of S_t = A_t S_(t-1) + B_t with (A_t, B_t) = step(t), by whole matrices."""
    state, out = q.new_zeros(*q.shape[:2], q.shape[-1], v.shape[-1]), []
    for t in range(q.shape[2]):
        left, new = step(t)
        state = left @ state + new
        out.append((q[:, :, t, None] @ state)[:, :, 0] * scale)
    return torch.stack(out, 2)


def kda(q, k, v, beta, log_decay):
    """S_t = (I - beta k k^T) diag(exp g) S + beta k v^T."""
    identity = torch.eye(q.shape[-1], dtype=q.dtype)

    def step(t):
        strength, key = beta[:, :, t, None, None], k[:, :, t]
        left = (identity - strength * outer(key, key)) @ torch.diag_embed(log_decay[:, :, t].exp())
        return left, strength * outer(key, v[:, :, t])

    return unrolled(step, q, v, q.shape[-1] ** -0.5)


def rwkv7(q, k, v, log_decay, removal_key, removal_rate):
    """S_t = (diag(exp w) - (a * kappa) kappa^T) S + k v^T."""

    def step(t):
        kappa = removal_key[:, :, t]
        left = torch.diag_embed(log_decay[:, :, t].exp())
        return left - outer(removal_rate[:, :, t] * kappa, kappa), outer(k[:, :, t], v[:, :, t])

    return unrolled(step, q, v)


def gated_deltaproduct(q, k, v, beta, log_decay, more_keys, more_values, more_betas):
    """One decay and R steps per token, as one matrix and one addition."""
    identity = torch.eye(q.shape[-1], dtype=q.dtype)

    def step(t):
        left = identity * log_decay[:, :, t, None, None].exp()
        new = torch.zeros_like(outer(k[:, :, t], v[:, :, t]))
        keys = (k[:, :, t], *more_keys[:, :, t].unbind(2))
        values = (v[:, :, t], *more_values[:, :, t].unbind(2))
        betas = (beta[:, :, t], *more_betas[:, :, t].unbind(2))
        for key, value, strength in zip(keys, values, betas, strict=True):
            turn = identity - strength[..., None, None] * outer(key, key)
            left = turn @ left
            new = turn @ new + strength[..., None, None] * outer(key, value)
        return left, new

    return unrolled(step, q, v, q.shape[-1] ** -0.5)


def fox(q, k, v, log_decay, window=None):
    return softmax(scores(q, k) + between(log_decay), seen(q.shape[2], window), v)


def softmax_sinks(q, k, v, sinks, window=None):
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    weights = scores(q, k).exp() * seen(q.shape[2], window)
    return weights @ v / (weights.sum(-1, keepdim=True) + sinks.exp()[:, None, None])


def gated_attention(q, k, v, gate, causal):
    kept = seen(q.shape[2]) if causal else torch.ones(1, 1, dtype=torch.bool)
    return softmax(scores(q, k), kept, v) * (gate if gate.dim() == 4 else gate[..., None])


def differential(q, k, v, lam, lambda_init, weight=None):
    """Two maps of half the channels; RMSNorm with eps 1e-5 where there is a weight."""
    (q1, q2), (k1, k2) = q.chunk(2, -1), k.chunk(2, -1)
    kept = seen(q.shape[2])
    out = softmax(scores(q1, k1), kept, v) - lam * softmax(scores(q2, k2), kept, v)
    if weight is not None:
        out = out / (out.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight
    return out * (1 - lambda_init)


def differential_v2(q, k, v, q_minus, gate):
    kept = seen(q.shape[2])
    minus = softmax(scores(q_minus, k), kept, v)
    return softmax(scores(q, k), kept, v) - gate[..., None] * minus


def grouped(q, x):
    return x.repeat_interleave(q.shape[1] // x.shape[1], 1)


def block_of(n, size):
    return torch.arange(n) // size


def moba(q, k, v, block_size, top_k):
    k, v = grouped(q, k), grouped(q, v)
    n = q.shape[2]
    own = block_of(n, block_size)
    kept = (own[:, None] == own).expand(*q.shape[:2], n, n).clone()
    means = torch.stack([part.mean(2) for part in k.split(block_size, 2)], 2)
    matches = torch.einsum("bhtd,bhcd->bhtc", q, means)
    for t in range(n):
        count = min(top_k - 1, int(own[t]))
        for best in matches[:, :, t, : own[t]].topk(count, -1).indices.unbind(-1):
            kept[:, :, t] |= best[..., None] == own
    return softmax(scores(q, k), kept & seen(n), v)


def nsa(q, k, v, gate_compression, gate_selection, gate_window, block_size, num_blocks, window):
    """Query heads of one head of keys choose together; blocks 0, the own and the one before it."""
    shared, n = q.shape[1] // k.shape[1], q.shape[2]
    k, v = grouped(q, k), grouped(q, v)
    place, own = torch.arange(n), block_of(n, block_size)
    means, values = (
        torch.stack([part.mean(2) for part in x.split(block_size, 2)], 2) for x in (k, v)
    )
    blocks = torch.arange(means.shape[2])
    ended = (blocks + 1) * block_size - 1 <= place[:, None]
    weights = scores(q, means).masked_fill(~ended, -torch.inf).softmax(-1).nan_to_num(0.0)
    out = gate_compression[..., None] * (weights @ values)
    order = weights.detach().unflatten(1, (-1, shared)).mean(2).repeat_interleave(shared, 1)
    order = order.masked_fill(~ended, -1.0)
    forced = (blocks == 0) | (blocks == own[:, None]) | (blocks == own[:, None] - 1)
    order = order.masked_fill(forced, 2.0)
    kept = torch.zeros(*q.shape[:3], n, dtype=torch.bool)
    for best in order.topk(min(num_blocks, len(blocks)), -1).indices.unbind(-1):
        kept |= best[..., None] == own
    out = out + gate_selection[..., None] * softmax(scores(q, k), kept & seen(n), v)
    return out + gate_window[..., None] * softmax(scores(q, k), seen(n, window), v)


def dsa(q, k, v, index_q, index_k, index_weight, top_k):
    k, v = grouped(q, k), grouped(q, v)
    n = q.shape[2]
    index = torch.einsum("bgtw,bsw->bgts", index_q, index_k).relu()
    index = torch.einsum("bgts,bgt->bts", index, index_weight)
    kept = torch.zeros(len(q), n, n, dtype=torch.bool)
    for t in range(n):
        best = index[:, t, : t + 1].topk(min(top_k, t + 1), -1).indices
        kept[:, t].scatter_(-1, best, True)
    return softmax(scores(q, k), kept[:, None], v)


def path(q, k, v, transition_key, beta, log_decay=None):
    """A query meets each key after the turns of all tokens between them, from its own on."""
    turned, columns = q, []
    for j in reversed(range(q.shape[2])):
        columns.append((turned * k[:, :, j, None]).sum(-1))
        w = transition_key[:, :, j, None]
        back = turned - beta[:, :, j, None, None] * (turned * w).sum(-1, keepdim=True) * w
        turned = torch.where(torch.arange(q.shape[2])[:, None] >= j, back, turned)
    found = torch.stack(columns[::-1], -1)
    if log_decay is not None:
        found = found + between(log_decay).masked_fill(~seen(q.shape[2]), 0.0)
    return softmax(found / q.shape[-1] ** 0.5, seen(q.shape[2]), v)


def deltaformer(q, k, v, beta):
    """One N x N system: (I + diag(beta) P) u = v for the strict softmax P."""
    n = q.shape[2]
    strict = scores(q, k).exp() * torch.ones(n, n, dtype=q.dtype).tril(-1)
    strict = strict / strict.sum(-1, keepdim=True).clamp(min=1e-300)
    u = torch.linalg.solve(torch.eye(n, dtype=q.dtype) + beta[..., None] * strict, v)
    return softmax(scores(q, k), seen(n), u)
