"""Stand-ins with the signatures of fla-core 0.6 and flash-attn, around formulas of `explicit`."""

from itertools import pairwise

import torch

from tests.attentions.mechanisms import explicit, explicit_states
from tests.attentions.mechanisms.explicit import outer, unrolled


def by_heads(form, *tensors, **named):
    """A formula over (B, H, T, ...) tensors for (B, T, H, ...) ones."""
    return form(*(x.transpose(1, 2) for x in tensors), **named).transpose(1, 2)


def scaled(q, scale):
    """Queries for a formula that divides scores by the root of their width."""
    return q if scale is None else q * scale * q.shape[-1] ** 0.5


def chunk_gla(q, k, v, g, scale=None):
    assert q.shape == k.shape == g.shape
    return by_heads(explicit_states.decayed, q, k, v, g, scale=scale), None


def chunk_simple_gla(q, k, v, g=None, scale=None):
    assert g.shape == q.shape[:3]
    return by_heads(explicit_states.decayed, q, k, v, g, scale=scale), None


def chunk_retention(q, k, v, scale=None):
    gamma = 1 - 2.0 ** (-5.0 - torch.arange(q.shape[2], dtype=q.dtype))
    log_decay = gamma.log().expand(q.shape[:3])
    return by_heads(explicit_states.decayed, q, k, v, log_decay, scale=scale), None


def chunk_delta_rule(q, k, v, beta, scale=None, use_qk_l2norm_in_kernel=False):
    assert q.dtype != torch.float32
    return chunk_gated_delta_rule(q, k, v, 0 * beta, beta, scale, use_qk_l2norm_in_kernel)


def chunk_gated_delta_rule(q, k, v, g, beta, scale=None, use_qk_l2norm_in_kernel=False):
    assert g.shape == beta.shape == q.shape[:3]
    if use_qk_l2norm_in_kernel:
        q, k = explicit_states.unit(q), explicit_states.unit(k)
    given = scaled(q, scale), k, v, beta, g
    return by_heads(explicit_states.gated_deltanet, *given, normalised=False), None


def chunk_kda(q, k, v, g, beta, scale=None):
    assert g.shape == q.shape and beta.shape == q.shape[:3]
    return by_heads(explicit.kda, scaled(q, scale), k, v, beta, g), None


def chunk_gated_delta_product(q, k, v, g, beta, num_householder, scale=None):
    steps = num_householder
    assert k.shape[1] == v.shape[1] == beta.shape[1] == steps * q.shape[1]
    decay = torch.zeros_like(beta)
    if g is not None:
        decay[:, ::steps] = g
    q = q.repeat_interleave(steps, dim=1)
    return chunk_gated_delta_rule(q, k, v, decay, beta, scale)[0][:, steps - 1 :: steps], None


def parallel_forgetting_attn(q, k, v, g, scale=None, window_size=None):
    assert g.shape == q.shape[:3]
    return by_heads(explicit.fox, scaled(q, scale), k, v, g, window=window_size)


def chunk_rwkv7(r, w, k, v, a, b, scale=1.0):
    def form(r, w, k, v, a, b):
        def step(t):
            left = torch.diag_embed(w[:, :, t].exp()) + outer(b[:, :, t], a[:, :, t])
            return left, outer(k[:, :, t], v[:, :, t])

        return unrolled(step, r, v, scale)

    return by_heads(form, r, w, k, v, a, b), None


def chunk_rwkv6(r, k, v, w, u, scale=None):
    assert w.shape == r.shape and u.shape == r.shape[2:]
    return by_heads(explicit_states.rwkv6, r * scale, k, v, w, bonus=u), None


def chunk_comba(q, k, v, p, g, beta=None, scale=None):
    assert p.shape == k.shape and g.shape == beta.shape == q.shape[:3]
    return by_heads(explicit_states.comba, scaled(q, scale), k, v, beta, g, p), None


def chunk_gdn2(q, k, v, g, b, w, scale=None):
    assert g.shape == b.shape == q.shape and w.shape == v.shape
    return by_heads(explicit_states.gated_deltanet2, scaled(q, scale), k, v, g, b, w), None


def chunk_gsa(q, k, v, s, g=None, scale=None):
    assert s.shape == g.shape and s.shape[:3] == q.shape[:3]
    return by_heads(explicit_states.gsa, scaled(q, scale), k, v, g, s), (None, None)


def chunk_mesa_net(q, k, v, g, beta, lamb, max_CG_iteration=30):
    assert lamb.shape == q.shape[2:] and g.shape == beta.shape == q.shape[:3]
    assert q.shape == k.shape == v.shape
    settings = {"ridge": lamb, "steps": max_CG_iteration}
    return by_heads(explicit_states.mesanet, q, k, v, beta, g, **settings), None, None


def chunk_log_linear_attn(q, k, v, g, level_scales, scale=1.0):
    assert q.shape[-1] % 64 == 0 and g.shape == level_scales.shape[:3] == q.shape[:3]
    return by_heads(explicit_states.log_linear, q * scale, k, v, g, level_scales), None


def parallel_path_attn(q, k, v, w, beta, g=None, scale=None):
    assert w.shape == k.shape and beta.shape == k.shape[:3]
    assert all(x.shape[-1] in (16, 32, 64, 128) for x in (k, v))
    gates = [] if g is None else [g]
    return by_heads(explicit.path, scaled(q, scale), k, v, w, beta, *gates), None


def sequences(cu_seqlens):
    """Where the tokens of each packed sequence stand."""
    return [slice(*ends) for ends in pairwise(cu_seqlens.tolist())]


def deltaformer_attn(q, k, v, beta=None, cu_seqlens=None):
    assert q.shape == k.shape == v.shape and beta.shape == q.shape[:3] and len(q) == 1
    given = (q, k, v, beta)
    parts = [[x[:, at] for x in given] for at in sequences(cu_seqlens)]
    return torch.cat([by_heads(explicit.deltaformer, *part) for part in parts], 1)


def parallel_moba(q, k, v, cu_seqlens, max_seqlen, chunk_size, topk):
    assert q.shape == k.shape == v.shape and len(q) == 1 and topk > 1
    parts = [[x[:, at] for x in (q, k, v)] for at in sequences(cu_seqlens)]
    assert all(part[0].shape[1] <= max_seqlen for part in parts)
    settings = {"block_size": chunk_size, "top_k": topk}
    return torch.cat([by_heads(explicit.moba, *part, **settings) for part in parts], 1)


def parallel_nsa(
    q,
    k,
    v,
    g_cmp=None,
    g_slc=None,
    g_swa=None,
    block_counts=16,
    block_size=64,
    window_size=0,
    scale=None,
):
    assert q.shape[2] // k.shape[2] >= 16 and g_cmp.shape == q.shape[:3] and scale is None
    settings = {"block_size": block_size, "num_blocks": block_counts, "window": window_size}
    return by_heads(explicit.nsa, q, k, v, g_cmp, g_slc, g_swa, **settings)


def packed_softmax(q, k, v, starts_q, starts_k, softmax_scale, causal, lse=None):
    """Weights of each packed sequence with its keys, and where both stand; flash-attn's varlen."""
    for rows, keys in zip(sequences(starts_q), sequences(starts_k), strict=True):
        scores = torch.einsum("ihd,jhd->hij", q[rows].double(), k[keys].double()) * softmax_scale
        if causal:
            scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf)
        total = scores.logsumexp(-1) if lse is None else lse[:, rows].double()
        yield rows, keys, (scores - total.unsqueeze(-1)).exp(), total


def flash_attn_func(q, k, v, *, causal, window_size):
    """Softmax of the last tokens, each head of keys for some heads of queries."""
    assert causal and window_size[1] == 0
    k, v = (x.repeat_interleave(q.shape[2] // x.shape[2], 2).double() for x in (k, v))
    scores = torch.einsum("bihd,bjhd->bhij", q.double(), k) * q.shape[-1] ** -0.5
    seen = torch.ones_like(scores).tril().triu(-window_size[0]).bool()
    weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    return torch.einsum("bhij,bjhe->bihe", weights, v).to(q.dtype)


def flash_attn_varlen_func(
    q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, *, causal, **given
):
    assert max_seqlen_q >= 1 and max_seqlen_k >= 1 and set(given) <= {"window_size"}
    scale = q.shape[-1] ** -0.5
    parts = packed_softmax(q, k, v, cu_seqlens_q, cu_seqlens_k, scale, causal)
    mixed = [torch.einsum("hij,jhe->ihe", p, v[keys].double()) for _, keys, p, _ in parts]
    return torch.cat(mixed).to(q.dtype)


def flash_attn_varlen_forward(q, k, v, cu_seqlens_q, cu_seqlens_k, softmax_scale, causal, **given):
    assert set(given) == {"max_seqlen_q", "max_seqlen_k", "dropout_p"}
    out, lse = torch.empty_like(q), q.new_empty(q.shape[1::-1], dtype=torch.float32)
    parts = packed_softmax(q, k, v, cu_seqlens_q, cu_seqlens_k, softmax_scale, causal)
    for rows, keys, weights, total in parts:
        out[rows] = torch.einsum("hij,jhe->ihe", weights, v[keys].double()).to(out.dtype)
        lse[:, rows] = total.float()
    return out, lse, None, None


def flash_attn_varlen_backward(
    dout,
    q,
    k,
    v,
    out,
    softmax_lse,
    dq,
    dk,
    dv,
    cu_seqlens_q,
    cu_seqlens_k,
    softmax_scale,
    causal,
    **given,
):
    """Gradients where weights follow from the given sums, which may be those of more keys."""
    starts = cu_seqlens_q, cu_seqlens_k
    parts = packed_softmax(q, k, v, *starts, softmax_scale, causal, softmax_lse)
    for rows, keys, weights, _ in parts:
        above = dout[rows].double()
        shares = torch.einsum("ihe,jhe->hij", above, v[keys].double())
        shares = shares - (above * out[rows].double()).sum(-1).T.unsqueeze(-1)
        shares = weights * shares * softmax_scale
        dv[keys] = torch.einsum("hij,ihe->jhe", weights, above).to(dv.dtype)
        dk[keys] = torch.einsum("hij,ihd->jhd", shares, q[rows].double()).to(dk.dtype)
        dq[rows] = torch.einsum("hij,jhd->ihd", shares, k[keys].double()).to(dq.dtype)


KERNELS = {
    "gla": chunk_gla,
    "simple_gla": chunk_simple_gla,
    "retention": chunk_retention,
    "delta_rule": chunk_delta_rule,
    "gated_delta_rule": chunk_gated_delta_rule,
    "kda": chunk_kda,
    "gated_delta_product": chunk_gated_delta_product,
    "forgetting_attn": parallel_forgetting_attn,
    "rwkv7": chunk_rwkv7,
    "rwkv6": chunk_rwkv6,
    "comba": chunk_comba,
    "gdn2": chunk_gdn2,
    "gsa": chunk_gsa,
    "mesa_net": chunk_mesa_net,
    "log_linear_attn": chunk_log_linear_attn,
    "path_attn": parallel_path_attn,
    "deltaformer": deltaformer_attn,
    "moba": parallel_moba,
    "nsa": parallel_nsa,
}
