"""torch's fused softmax attention, except for gradients of float16 inputs on a processor.

The kernel's backward pass computes weights again, as exp(s - log_sum) from a logarithm in float32.
Where scores pass 2^24 (entries of 1e4 are enough) that difference is off by whole numbers, and its
exponential leaves float16. There the online softmax takes its place, in float32 and tile by tile.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from ._online_softmax import online_softmax
from ._precision import widen, without_autocast

_TILE = 256
"""As `softmax_chunked` has it."""


def fused_softmax(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    *,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """softmax(scale q k^T) v: (B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E).

    Args:
        q: queries.
        k: keys.
        v: values.
        mask: bool, broadcasts to (B, H, N, M), True keeps; each query keeps at least one key.
        is_causal: hide the keys that come later; N = M.
        scale: 1 / sqrt(D) if None.
    """
    if not needs_tiles(q, k, v):
        return functional.scaled_dot_product_attention(
            q, k, v, mask, is_causal=is_causal, scale=scale
        )
    with without_autocast(q.device.type):
        queries, keys, values = (widen(x) for x in (q, k, v))
        if scale is not None:  # beside the 1 / sqrt(D) that tiles apply
            queries = queries * (scale * math.sqrt(q.shape[-1]))
        out = online_softmax(queries, keys, values, mask, causal=is_causal, size=_TILE)
        return out.to(q.dtype)


def needs_tiles(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether the kernel's gradients could be infinite; an exported graph has none.

    Where it is so, keys and values may come in float32: who gives several views of a key lets
    their gradients add up there.
    """
    return (
        q.dtype == torch.float16
        and q.device.type == "cpu"
        and torch.is_grad_enabled()
        and any(x.requires_grad for x in (q, k, v))
        and not torch.compiler.is_exporting()
    )
