"""Whether tensors are ordinary ones on a CPU, whose operators nothing but autograd follows."""

from __future__ import annotations

import torch
from torch import Tensor


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
