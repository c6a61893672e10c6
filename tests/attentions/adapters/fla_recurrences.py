"""Stand-ins for operators of linear recurrences, with the signatures of fla-core 0.6; any dtype."""

import torch

from attentions.maths.delta_rule import unit_length


def recurrence(q, k, v, scale, *, log_decay=None, beta=None):
    """(B, T, H, ...) tensors; the state of one head and batch row after another."""
    assert q.shape == k.shape and v.shape[:3] == q.shape[:3], "heads stand behind tokens"
    out = torch.zeros_like(v)
    for b in range(q.shape[0]):
        for h in range(q.shape[2]):
            state = q.new_zeros(q.shape[-1], v.shape[-1])
            for t in range(q.shape[1]):
                if log_decay is not None:
                    decay = log_decay[b, t, h].exp()
                    state = state * (decay[:, None] if decay.dim() else decay)
                value = v[b, t, h]
                if beta is not None:
                    value = beta[b, t, h] * (value - k[b, t, h] @ state)
                state = state + torch.outer(k[b, t, h], value)
                out[b, t, h] = (q[b, t, h] * scale) @ state
    return out


def chunk_gla(q, k, v, g, scale=None):
    assert q.shape == k.shape == g.shape
    return recurrence(q, k, v, scale or q.shape[-1] ** -0.5, log_decay=g), None


def chunk_simple_gla(q, k, v, g=None, scale=None):
    assert g.shape == q.shape[:3]
    return recurrence(q, k, v, scale or k.shape[-1] ** -0.5, log_decay=g), None


def chunk_retention(q, k, v, scale=None):
    gamma = 1 - 2.0 ** (-5.0 - torch.arange(q.shape[2], dtype=q.dtype))
    steps = gamma.log().expand(q.shape[:3])
    return recurrence(q, k, v, scale or k.shape[-1] ** -0.5, log_decay=steps), None


def chunk_delta_rule(q, k, v, beta, scale=None, use_qk_l2norm_in_kernel=False):
    assert q.dtype == k.dtype == v.dtype != torch.float32
    assert beta.shape == q.shape[:3]
    if use_qk_l2norm_in_kernel:
        q, k = unit_length(q), unit_length(k)
    return recurrence(q, k, v, scale or k.shape[-1] ** -0.5, beta=beta), None


def chunk_gated_delta_rule(q, k, v, g, beta, scale=None, use_qk_l2norm_in_kernel=False):
    assert g.shape == beta.shape == q.shape[:3]
    if use_qk_l2norm_in_kernel:
        q, k = unit_length(q), unit_length(k)
    return recurrence(q, k, v, scale or k.shape[-1] ** -0.5, log_decay=g, beta=beta), None


def chunk_kda(q, k, v, g, beta, scale=None):
    assert g.shape == q.shape and beta.shape == q.shape[:3]
    return recurrence(q, k, v, scale, log_decay=g, beta=beta), None


def chunk_gated_delta_product(q, k, v, g, beta, num_householder, scale=None):
    steps = num_householder
    assert k.shape[1] == v.shape[1] == beta.shape[1] == steps * q.shape[1]
    if g is not None:
        first = torch.zeros(*g.shape[:2], steps, g.shape[2], dtype=g.dtype)
        first[:, :, 0] = g
        g = first.flatten(1, 2)
    q = q.repeat_interleave(steps, dim=1)
    return recurrence(q, k, v, scale, log_decay=g, beta=beta)[:, steps - 1 :: steps], None


KERNELS = {
    "gla": chunk_gla,
    "simple_gla": chunk_simple_gla,
    "retention": chunk_retention,
    "delta_rule": chunk_delta_rule,
    "gated_delta_rule": chunk_gated_delta_rule,
    "kda": chunk_kda,
    "gated_delta_product": chunk_gated_delta_product,
}
