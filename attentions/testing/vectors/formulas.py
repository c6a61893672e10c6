"""Explicit formulas of the test vectors, token by token, in numpy alone.

A formula takes the tensors of some tokens, (B, H, N, ...), and the state after the tokens before
them, empty at the start; it returns their outputs, (B, H, N, E), and the state after them. Keys and
values may have fewer heads than queries. ``D`` is the width of keys, ``E`` that of values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Tensors = dict[str, Array]
Formula = Callable[..., tuple[Array, Tensors]]


def repeat_heads(x: Array, heads: int) -> Array:
    """Keys or values for each query head: head h reads number h // (H / H_kv), (B, H, ...)."""
    return np.repeat(x, heads // x.shape[1], axis=1)


def append(state: Tensors, x: Tensors, name: str) -> Array:
    """A tensor of the tokens so far, (B, H_kv, M, ...): a cache and the new tokens."""
    return np.concatenate((state[name], x[name]), axis=2) if name in state else x[name]


def outer(key: Array, value: Array) -> Array:
    """Outer products, (B, H, D) and (B, H, E) -> (B, H, D, E)."""
    return key[..., :, None] * value[..., None, :]


def read(query: Array, state: Array) -> Array:
    """Values under a query, (B, H, D) and (B, H, D, E) -> (B, H, E)."""
    found: Array = np.einsum("bhd,bhde->bhe", query, state)
    return found


def decays(x: Tensors, k: Array) -> Array:
    """Factors of the state per token and key channel, (B, H, N, D), from log decays or none."""
    g = x.get("log_decay", np.zeros(k.shape[:3]))
    decay = np.exp(g)
    return np.broadcast_to(decay if decay.ndim == 4 else decay[..., None], k.shape)


def softmax_sinks(
    x: Tensors, state: Tensors, *, window: int | None = None
) -> tuple[Array, Tensors]:
    """out_t = sum_j exp(s_tj) v_j / (sum_j exp(s_tj) + exp(sink)), over the last ``window`` j."""
    q, cache = x["q"], {name: append(state, x, name) for name in "kv"}
    k, v = (repeat_heads(cache[name], q.shape[1]) for name in "kv")
    n, sink, out = q.shape[2], x["sinks"][:, None], np.zeros((*q.shape[:3], v.shape[3]))
    place, scale = np.arange(k.shape[2]), q.shape[3] ** -0.5
    for t in range(n):
        now = k.shape[2] - n + t
        seen = (place <= now) & (place > now - (window or np.inf))
        score = np.einsum("bhd,bhjd->bhj", scale * q[:, :, t], k)
        score = np.where(seen, score, -np.inf)
        top = np.maximum(score.max(-1, keepdims=True), sink)
        weight = np.exp(score - top)
        total = weight.sum(-1, keepdims=True) + np.exp(sink - top)
        out[:, :, t] = np.einsum("bhj,bhje->bhe", weight / total, v)
    return out, cache


def sparse(x: Tensors, state: Tensors, *, top_k: int) -> tuple[Array, Tensors]:
    """Softmax over the ``top_k`` keys of the largest sum_g w_tg relu(qI_tg . kI_j), for all heads.

    Keys that tie at the cut have no order here: no case has such.
    """
    q, cache = x["q"], {name: append(state, x, name) for name in ("k", "v", "index_k")}
    k, v = (repeat_heads(cache[name], q.shape[1]) for name in "kv")
    n, out, weight_g = q.shape[2], np.zeros((*q.shape[:3], v.shape[3])), x["index_weight"]
    place, scale = np.arange(k.shape[2]), q.shape[3] ** -0.5
    for t in range(n):
        seen = place <= k.shape[2] - n + t
        index = np.einsum("bgw,bjw->bgj", x["index_q"][:, :, t], cache["index_k"][:, 0])
        index = np.einsum("bg,bgj->bj", weight_g[:, :, t], np.maximum(index, 0))
        index = np.where(seen, index, -np.inf)
        chosen = (index >= np.sort(index)[:, -top_k:][:, :1]) & seen
        score = np.einsum("bhd,bhjd->bhj", scale * q[:, :, t], k)
        score = np.where(chosen[:, None], score, -np.inf)
        weight = np.exp(score - score.max(-1, keepdims=True))
        total = weight.sum(-1, keepdims=True)
        out[:, :, t] = np.einsum("bhj,bhje->bhe", weight / total, v)
    return out, cache


def linear(x: Tensors, state: Tensors, *, eps: float = 1e-6) -> tuple[Array, Tensors]:
    """out_t = S_t^T f(q_t) / (z_t . f(q_t) + eps), where S sums f(k) v^T, z sums f(k)."""
    q, k = (np.where(x[name] > 0, x[name] + 1, np.exp(np.minimum(x[name], 0))) for name in "qk")
    k, v = (repeat_heads(y, q.shape[1]) for y in (k, x["v"]))
    n, out = q.shape[2], np.zeros((*q.shape[:3], v.shape[3]))
    s = state.get("context", np.zeros((*q.shape[:2], k.shape[3], v.shape[3])))
    z = state.get("key_sum", np.zeros((*q.shape[:2], k.shape[3])))
    for t in range(n):
        s = s + outer(k[:, :, t], v[:, :, t])
        z = z + k[:, :, t]
        total = (q[:, :, t] * z).sum(-1, keepdims=True)
        out[:, :, t] = read(q[:, :, t], s) / (total + eps)
    return out, {"context": s, "key_sum": z}


def gated_linear(x: Tensors, state: Tensors) -> tuple[Array, Tensors]:
    """S_t = diag(exp(g_t)) S_(t-1) + k_t v_t^T; out_t = S_t^T q_t / sqrt(D)."""
    q, scale = x["q"], x["q"].shape[3] ** -0.5
    k, v = (repeat_heads(x[name], q.shape[1]) for name in "kv")
    n, out, decay = q.shape[2], np.zeros((*q.shape[:3], v.shape[3])), decays(x, k)
    s = state.get("state", np.zeros((*q.shape[:2], k.shape[3], v.shape[3])))
    for t in range(n):
        s = decay[:, :, t, :, None] * s
        s = s + outer(k[:, :, t], v[:, :, t])
        out[:, :, t] = read(scale * q[:, :, t], s)
    return out, {"state": s}


def delta(x: Tensors, state: Tensors, *, normalise_keys: bool = True) -> tuple[Array, Tensors]:
    """S' = diag(exp(g_t)) S_(t-1); S_t = S' + beta_t k_t (v_t - S'^T k_t)^T; out as above.

    Keys are first divided by sqrt(|k|^2 + 1e-6), if so chosen.
    """
    beta, scale, heads = x["beta"][..., None], x["q"].shape[3] ** -0.5, x["beta"].shape[1]
    length = np.sqrt((x["k"] ** 2).sum(-1, keepdims=True) + 1e-6)
    k = repeat_heads(x["k"] / length if normalise_keys else x["k"], heads)
    q, v = repeat_heads(x["q"], heads), repeat_heads(x["v"], heads)
    n, out, decay = q.shape[2], np.zeros((*q.shape[:3], v.shape[3])), decays(x, k)
    s = state.get("state", np.zeros((*q.shape[:2], k.shape[3], v.shape[3])))
    for t in range(n):
        s = decay[:, :, t, :, None] * s
        new = v[:, :, t] - read(k[:, :, t], s)
        s = s + outer(beta[:, :, t] * k[:, :, t], new)
        out[:, :, t] = read(scale * q[:, :, t], s)
    return out, {"state": s}


FORMULAS: dict[str, Formula] = {
    "softmax_sinks": softmax_sinks,
    "sparse": sparse,
    "linear": linear,
    "gated_linear": gated_linear,
    "delta": delta,
}


def replay(case: Mapping[str, Any], x: Tensors) -> Tensors:
    """Results of a case: ``out.i`` of each part of its trace, ``state.i.name`` after it.

    A part reads ``tokens`` from the state that part number ``after`` left, or from an empty one.
    """
    states: list[Tensors] = []
    results: Tensors = {}
    for i, part in enumerate(case["trace"]):
        state = {} if part["after"] is None else states[part["after"]]
        first, last = part["tokens"]
        some = {name: y if y.ndim == 1 else y[:, :, first:last] for name, y in x.items()}
        out, state = FORMULAS[case["formula"]](some, state, **case["settings"])
        results |= {f"out.{i}": out, **{f"state.{i}.{name}": y for name, y in state.items()}}
        states.append(state)
    return results
