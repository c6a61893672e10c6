"""Where the tiled code path applies."""

from __future__ import annotations

import torch
from torch import Tensor

_COMPUTED_IN_FLOAT32 = {torch.float32, torch.bfloat16, torch.float16}


def is_eager_cpu(*tensors: Tensor) -> bool:
    """Whether these are ordinary tensors on a CPU and nothing but autograd follows the operators.

    Tensors on the meta device count as well: a dry run then sees what a CPU would allocate.
    """
    if torch.compiler.is_compiling() or _is_traced():
        return False
    return (
        all(type(x) in (Tensor, torch.nn.Parameter) for x in tensors)
        and all(x.device.type in ("cpu", "meta") for x in tensors)
        and not torch._C._are_functorch_transforms_active()  # there is no public name for it
        and not any(torch.autograd.forward_ad.unpack_dual(x).tangent is not None for x in tensors)
    )


def _is_traced() -> bool:
    return torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call, no-any-return]


def is_tiled(q: Tensor, k: Tensor, v: Tensor, *weights: Tensor) -> bool:
    """Whether attention of these runs tile by tile.

    Shapes that do not fit together are left to the plain formula, whose operators say what is
    wrong.
    """
    tensors = (q, k, v, *weights)
    if not is_eager_cpu(*tensors) or not _fit_together(q, k, v):
        return False
    dtypes = {x.dtype for x in tensors}
    return dtypes <= _COMPUTED_IN_FLOAT32 or dtypes == {torch.float64}


def _fit_together(q: Tensor, k: Tensor, v: Tensor) -> bool:
    return (
        q.dim() == k.dim() == v.dim() == 4
        and q.shape[:2] == k.shape[:2] == v.shape[:2]
        and q.shape[3] == k.shape[3]
        and k.shape[2] == v.shape[2]
        and min(q.numel(), k.numel(), v.numel()) > 0
    )
