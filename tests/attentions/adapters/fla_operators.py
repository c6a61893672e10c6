"""Stand-ins for operators of 2024 and later, with the signatures of fla-core 0.6; any dtype."""

import itertools
from itertools import pairwise

import torch


def parallel_forgetting_attn(q, k, v, g, scale=None, window_size=None):
    assert g.shape == q.shape[:3]
    n, total = q.shape[1], g.cumsum(1).transpose(1, 2)
    scores = torch.einsum("bihd,bjhd->bhij", q, k) * (scale or q.shape[-1] ** -0.5)
    scores = scores + total[..., :, None] - total[..., None, :]
    seen = torch.ones(n, n).tril().triu(1 - (window_size or n)).bool()
    weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    return torch.einsum("bhij,bjhe->bihe", weights, v)


def chunk_rwkv7(r, w, k, v, a, b, scale=1.0):
    out, state = torch.zeros_like(v), r.new_zeros(*r[:, 0].shape, v.shape[-1])
    for t in range(r.shape[1]):
        read = torch.einsum("bhd,bhde->bhe", a[:, t], state)
        state = state * w[:, t].exp().unsqueeze(-1)
        for key, value in ((b[:, t], read), (k[:, t], v[:, t])):
            state = state + key.unsqueeze(-1) * value.unsqueeze(-2)
        out[:, t] = torch.einsum("bhd,bhde->bhe", r[:, t] * scale, state)
    return out, None


def chunk_rwkv6(r, k, v, w, u, scale=None):
    assert w.shape == r.shape and u.shape == r.shape[2:]
    out, state = torch.zeros_like(v), r.new_zeros(*r[:, 0].shape, v.shape[-1])
    for t in range(r.shape[1]):
        own = k[:, t].unsqueeze(-1) * v[:, t].unsqueeze(-2)
        seen = state + u.unsqueeze(-1) * own
        out[:, t] = torch.einsum("bhd,bhde->bhe", r[:, t] * scale, seen)
        state = state * w[:, t].exp().unsqueeze(-1) + own
    return out, None


def chunk_comba(q, k, v, p, g, beta=None, scale=None):
    assert p.shape == k.shape and g.shape == beta.shape == q.shape[:3]
    out, state = torch.zeros_like(v), q.new_zeros(*q[:, 0].shape, v.shape[-1])
    for t in range(q.shape[1]):
        new = v[:, t] - torch.einsum("bhd,bhde->bhe", p[:, t], state)
        write = torch.einsum("bh,bhd,bhe->bhde", beta[:, t], k[:, t], new)
        state = state * g[:, t].exp()[..., None, None] + write
        out[:, t] = torch.einsum("bhd,bhde->bhe", q[:, t] * scale, state)
    return out, None


def chunk_gdn2(q, k, v, g, b, w, scale=None):
    assert g.shape == b.shape == q.shape and w.shape == v.shape
    out, state = torch.zeros_like(v), q.new_zeros(*q[:, 0].shape, v.shape[-1])
    for t in range(q.shape[1]):
        state = state * g[:, t].exp().unsqueeze(-1)
        erased = torch.einsum("bhd,bhde->bhe", b[:, t] * k[:, t], state)
        state = state + k[:, t].unsqueeze(-1) * (w[:, t] * v[:, t] - erased).unsqueeze(-2)
        out[:, t] = torch.einsum("bhd,bhde->bhe", q[:, t] * scale, state)
    return out, None


def chunk_gsa(q, k, v, s, g=None, scale=None):
    assert s.shape == g.shape and s.shape[:3] == q.shape[:3]
    keys = q.new_zeros(*s[:, 0].shape, k.shape[-1])
    values, out = q.new_zeros(*s[:, 0].shape, v.shape[-1]), torch.zeros_like(v)
    for t in range(q.shape[1]):
        left, taken = g[:, t].exp().unsqueeze(-1), s[:, t].unsqueeze(-1)
        keys = left * keys + taken * k[:, t].unsqueeze(-2)
        values = left * values + taken * v[:, t].unsqueeze(-2)
        weights = torch.einsum("bhmd,bhd->bhm", keys, q[:, t] * scale).softmax(-1)
        out[:, t] = torch.einsum("bhm,bhme->bhe", weights, values)
    return out, (None, None)


def chunk_mesa_net(q, k, v, g, beta, lamb, max_CG_iteration=30):
    assert lamb.shape == q.shape[2:] and g.shape == beta.shape == q.shape[:3]
    assert q.shape == k.shape == v.shape
    out, gram = torch.zeros_like(v), q.new_zeros(*q[:, 0].shape, q.shape[-1])
    context = gram
    for t in range(q.shape[1]):
        left, written = g[:, t].exp()[..., None, None], (beta[:, t, :, None] * k[:, t])[..., None]
        gram = left * gram + written * k[:, t].unsqueeze(-2)
        context = left * context + written * v[:, t].unsqueeze(-2)
        x, rest, way = torch.zeros_like(q[:, t]), q[:, t], q[:, t]
        for _ in range(max_CG_iteration):
            size = (rest * rest).sum(-1, keepdim=True)
            image = torch.einsum("bhde,bhe->bhd", gram, way) + lamb * way
            pace = size / ((way * image).sum(-1, keepdim=True) + 1e-5)
            x, rest = x + pace * way, rest - pace * image
            way = rest + (rest * rest).sum(-1, keepdim=True) / (size + 1e-5) * way
        out[:, t] = torch.einsum("bhd,bhde->bhe", x, context)
    return out, None, None


def chunk_log_linear_attn(q, k, v, g, level_scales, scale=1.0):
    assert q.shape[-1] % 64 == 0 and g.shape == level_scales.shape[:3] == q.shape[:3]
    out, total = torch.zeros_like(v), g.cumsum(1)
    for i in range(q.shape[1]):
        for j in range(i + 1):
            level = (i ^ j).bit_length()
            weight = level_scales[:, i, :, level] * (total[:, i] - total[:, j]).exp()
            weight = weight * (q[:, i] * k[:, j]).sum(-1) * scale
            out[:, i] = out[:, i] + weight.unsqueeze(-1) * v[:, j]
    return out, None


def parallel_path_attn(q, k, v, w, beta, g=None, scale=None):
    assert w.shape == k.shape and beta.shape == k.shape[:3]
    assert all(x.shape[-1] in (16, 32, 64, 128) for x in (k, v))
    total = torch.zeros_like(beta) if g is None else g.cumsum(1)
    out = torch.zeros_like(v)
    for i in range(q.shape[1]):
        moved, scores = q[:, i], []
        for j in range(i, -1, -1):
            scores.insert(0, (moved * k[:, j]).sum(-1) + total[:, i] - total[:, j])
            part = beta[:, j] * (moved * w[:, j]).sum(-1)
            moved = moved - part.unsqueeze(-1) * w[:, j]
        weights = (torch.stack(scores, 1) * (scale or k.shape[-1] ** -0.5)).softmax(1)
        out[:, i] = (weights.unsqueeze(-1) * v[:, : i + 1]).sum(1)
    return out, None


def sequences(cu_seqlens):
    """Where the tokens of each packed sequence stand."""
    return [slice(*ends) for ends in pairwise(cu_seqlens.tolist())]


def deltaformer_attn(q, k, v, beta=None, cu_seqlens=None):
    assert q.shape == k.shape == v.shape and beta.shape == q.shape[:3] and len(q) == 1
    out, u = torch.zeros_like(v), torch.zeros_like(v)
    for at in sequences(cu_seqlens):
        for i in range(at.start, at.stop):
            seen = slice(at.start, i + 1)
            scores = (q[0, i] * k[0, seen]).sum(-1) * q.shape[-1] ** -0.5
            known = scores[:-1].softmax(0).unsqueeze(-1) * u[0, at.start : i]
            u[0, i] = v[0, i] - beta[0, i, :, None] * known.sum(0)
            out[0, i] = (scores.softmax(0).unsqueeze(-1) * u[0, seen]).sum(0)
    return out


def parallel_moba(q, k, v, cu_seqlens, max_seqlen, chunk_size, topk):
    assert q.shape == k.shape == v.shape and len(q) == 1 and topk > 1
    out = torch.zeros_like(v)
    for at in sequences(cu_seqlens):
        assert at.stop - at.start <= max_seqlen
        for i in range(at.start, at.stop):
            own = i - (i - at.start) % chunk_size
            scores = (q[0, i] * k[0, at.start : i + 1]).sum(-1) * q.shape[-1] ** -0.5
            past = k[0, at.start : own].unflatten(0, (-1, chunk_size)).mean(1)
            order = (q[0, i] * past).sum(-1)
            ranks = order.argsort(0, descending=True).argsort(0)
            seen = (ranks < topk - 1).repeat_interleave(chunk_size, 0)
            scores[: own - at.start] = scores[: own - at.start].masked_fill(~seen, -torch.inf)
            out[0, i] = (scores.softmax(0).unsqueeze(-1) * v[0, at.start : i + 1]).sum(0)
    return out


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
    heads = q.shape[2]
    assert heads // k.shape[2] >= 16 and g_cmp.shape == q.shape[:3] and scale is None
    out, size = torch.zeros(*q.shape[:3], v.shape[-1], dtype=q.dtype), block_size
    for b, h, t in itertools.product(range(len(q)), range(k.shape[2]), range(q.shape[1])):
        of = slice(h * heads // k.shape[2], (h + 1) * heads // k.shape[2])
        scores = q[b, t, of] @ k[b, : t + 1, h].T * q.shape[-1] ** -0.5
        ended, own = (t + 1) // size, t // size
        means = k[b, : ended * size, h].unflatten(0, (ended, size)).mean(1)
        weights = (q[b, t, of] @ means.T * q.shape[-1] ** -0.5).softmax(-1)
        values = v[b, : ended * size, h].unflatten(0, (ended, size)).mean(1)
        forced = {0, own - 1, own}
        order = {x: 99.0 if x in forced else float(weights[:, x].sum()) for x in range(own + 1)}
        best = sorted(order, key=lambda x: -order[x])[:block_counts]
        chosen = torch.tensor([x // size in best for x in range(t + 1)])
        near = torch.arange(t + 1) > t - window_size
        out[b, t, of] = g_cmp[b, t, of, None] * (weights @ values)
        for gate, seen in ((g_slc, chosen), (g_swa, near)):
            mixed = scores.masked_fill(~seen, -torch.inf).softmax(-1) @ v[b, : t + 1, h]
            out[b, t, of] += gate[b, t, of, None] * mixed
    return out


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
