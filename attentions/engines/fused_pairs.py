"""Plain softmax attention by torch's fused function."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from ..maths.pairs.tiles import Tiling
from ..maths.shared_heads import for_every_query_head
from .tiled_pairs import SoftmaxWeights, are_transformed, plain_gradients, plain_pairs


def are_torchs(q: Tensor, k: Tensor, v: Tensor, tiling: Tiling) -> bool:
    """Whether torch's function has these pairs: all of several queries, or causal from the start.

    One query meets a cache as it lies.
    """
    is_whole = not tiling.causal or (tiling.past == 0 and tiling.query_len == tiling.key_len)
    if tiling.window is not None or tiling.query_len == 1 or not is_whole:
        return False
    return not are_transformed((q, k, v))


def fused_pairs(q: Tensor, k: Tensor, v: Tensor, tiling: Tiling) -> Tensor:
    """Give softmax(q k^T / sqrt(D)) v, with as many keys as queries if causal.

    Memory is linear in N, but for gradients that are to be differentiated again: torch's function
    has none, and all pairs are written out.

    Args:
        q: (B, H, N, D).
        k: (B, H_kv, M, D).
        v: (B, H_kv, M, E).
        tiling: says whether it is causal; nothing else in it hides a pair.
    """
    is_followed = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    if not is_followed or torch.compiler.is_compiling():
        return _by_torch(q, k, v, tiling.causal)
    out: Tensor = _Fused.apply(q, k, v, tiling)  # type: ignore[no-untyped-call]
    return out


def _by_torch(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """A call in one width: for another one of values a CPU has no fused kernel."""
    width, value_width = q.shape[-1], v.shape[-1]
    if q.device.type == "cuda":  # where no kernel for wide numbers shares heads
        k, v = (for_every_query_head(x, q.shape[1]) for x in (k, v))
    if width != value_width:
        most = max(width, value_width)
        q, k, v = (functional.pad(x, (0, most - x.shape[-1])) for x in (q, k, v))
    shared, scale = k.shape[1] != q.shape[1], width**-0.5
    attend = functional.scaled_dot_product_attention
    return attend(q, k, v, is_causal=causal, scale=scale, enable_gqa=shared)[..., :value_width]


class _Fused(Function):
    """torch's function with its own graph, and all pairs where a gradient has one."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, tiling: Tiling) -> Tensor:
        ctx.tiling = tiling
        ctx.save_for_backward(q, k, v)
        with torch.enable_grad():
            q, k, v = ctx.leaves = [x.detach().requires_grad_() for x in (q, k, v)]
            ctx.out = _by_torch(q, k, v, tiling.causal)
        found: Tensor = ctx.out.detach()
        return found

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            how: Any = SoftmaxWeights()

            def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                return plain_pairs(q, k, v, *(None,) * 5, 1, ctx.tiling, how)

            grads = plain_gradients(plain, ctx.saved_tensors, ctx.needs_input_grad[:3], grad_out)
            return *grads, None
        return *torch.autograd.grad(ctx.out, ctx.leaves, grad_out, retain_graph=True), None
