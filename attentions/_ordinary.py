"""Which tensors may be looked at, and computed with by hand."""

from __future__ import annotations

import torch
from torch import Tensor


def is_ordinary(*tensors: Tensor) -> bool:
    """Whether these may be computed by hand.

    Not on other devices, where nobody has measured what is gained; and not where something other
    than autograd follows the operators: a compiler, a tracer, a transform.
    """
    if torch.compiler.is_compiling():
        return False
    return (
        all([type(x) in (Tensor, torch.nn.Parameter) and x.is_cpu for x in tensors])
        and torch._C._get_tracing_state() is None
        and not torch._C._are_functorch_transforms_active()
        and torch.autograd.forward_ad._current_level < 0
    )
