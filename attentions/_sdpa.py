"""torch's fused softmax attention, except where a processor's gradients would be lost to rounding.

The kernel's backward pass computes weights again, as exp(s - log_sum) from a logarithm in float32.
Where scores pass 2^24 (entries of 1e4 are enough) that difference is off by whole numbers: its
exponential is wrong, then infinite. There the online softmax gives the gradients, in float32 and
tile by tile. The output stays the kernel's, to the bit: a later token with large scores must not
change how an earlier one is rounded. Where float16 inputs want gradients, whose sums can leave
float16, all is the online softmax's.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from ._ordinary import is_ordinary
from .maths.online_softmax import online_softmax
from .precision import widen, without_autocast

_TILE = 256
"""As `softmax_chunked` has it."""
_LARGEST_LOG = 2.0**16
"""Beyond it neighbouring floats are more than 2^-8 apart, which is an error of 0.4 % in a weight.
Vectors of norm 50 have scores of hundreds."""


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
    if needs_tiles(q, k, v):
        return _by_tiles(q, k, v, mask, is_causal, scale)
    out = functional.scaled_dot_product_attention(q, k, v, mask, is_causal=is_causal, scale=scale)
    if out.requires_grad and is_ordinary(q, k, v) and _loses_weights(out):
        guarded: Tensor = _GradientsByTiles.apply(out, q, k, v, mask, is_causal, scale)  # type: ignore[no-untyped-call]
        return guarded
    return out


def _by_tiles(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, is_causal: bool, scale: float | None
) -> Tensor:
    with without_autocast(q.device.type):
        queries, keys, values = (widen(x) for x in (q, k, v))
        if scale is not None:  # beside the 1 / sqrt(D) that tiles apply
            queries = queries * (scale * math.sqrt(q.shape[-1]))
        out = online_softmax(queries, keys, values, mask, causal=is_causal, size=_TILE)
        return out.to(q.dtype)


class _GradientsByTiles(torch.autograd.Function):
    """The kernel's output as it is, and gradients that are not the kernel's."""

    @staticmethod
    def forward(
        ctx: Any,
        out: Tensor,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        is_causal: bool,
        scale: float | None,
    ) -> Tensor:
        ctx.save_for_backward(q, k, v, mask)
        ctx.is_causal, ctx.scale = is_causal, scale
        return out.view_as(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, mask = ctx.saved_tensors
        wanted = ctx.needs_input_grad[1:4]
        q, k, v = (x.detach().requires_grad_(w) for x, w in zip(inputs, wanted, strict=True))
        chosen = [x for x in (q, k, v) if x.requires_grad]
        with torch.enable_grad():
            out = _by_tiles(q, k, v, mask, ctx.is_causal, ctx.scale)
        found = iter(torch.autograd.grad(out, chosen, grad_out))
        gradients = [next(found) if needed else None for needed in wanted]
        # Without a gradient of its own, the kernel's backward pass does not run.
        return (None, *gradients, None, None, None)


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


def _loses_weights(out: Tensor) -> bool:
    """Whether the kernel's backward pass cannot compute its weights again.

    It is asked here, where the logarithm of a query's sum is at hand, a number for each query.
    Whoever has hooks on saved tensors may pack them into something that must not be opened yet, as
    checkpoints do: they keep the kernel.
    """
    if torch._C._autograd._top_saved_tensors_default_hooks(True) is not None:
        return False
    log_sum = getattr(out.grad_fn, "_saved_logsumexp", None)
    if log_sum is None:  # not the fused kernel, and then weights are kept
        return False
    least, greatest = (float(x) for x in log_sum.aminmax())
    return not (least >= -_LARGEST_LOG and greatest <= _LARGEST_LOG)  # so that NaN counts
