"""Half inputs are computed in float32; float16 outputs saturate at its largest number.

Feature maps raise entries to powers and normalisers add 1e-6: float16 cannot hold them, bfloat16
cannot tell them from nothing. Autocast is switched off too, as it would run the products in half.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

HALF = (torch.float16, torch.bfloat16)

F = TypeVar("F", bound=Callable[..., Any])


def widen(x: Tensor) -> Tensor:
    """Float32 for a half tensor, the tensor itself otherwise.

    A gradient may be larger than float16 can hold: that of a direction grows as 1 / ||x||. On its
    way back to float16 it stops at the largest finite value instead of becoming infinite.
    """
    if x.dtype not in HALF:
        return x
    wide = x.float()
    if x.dtype == torch.float16 and wide.requires_grad:
        wide.register_hook(within_float16)
    return wide


def within_float16(x: Tensor) -> Tensor:
    """The tensor itself, but for what float16 cannot hold: its largest number of the same sign."""
    largest = torch.finfo(torch.float16).max
    return x.clamp(-largest, largest)


def within_range(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Cast; what float16 cannot hold becomes its largest finite number of the same sign."""
    if dtype == torch.float16 and x.dtype != dtype:
        x = within_float16(x)
    return x.to(dtype)


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype that `widen` gives."""
    return torch.float32 if dtype in HALF else dtype


def is_autocast(device_type: str) -> bool:
    """Whether products run in half; never where there is no such thing, as on meta tensors."""
    return torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)


def without_autocast(device_type: str) -> contextlib.AbstractContextManager[Any]:
    """A block in which products run in the dtype of their inputs."""
    if is_autocast(device_type):
        return torch.autocast(device_type, enabled=False)
    return contextlib.nullcontext()


def backward_without_autocast(backward: F) -> F:
    """Make ``backward(ctx, grad, ...)`` of a `torch.autograd.Function` run as its forward did.

    A user may take gradients within a block of autocast; weights that are computed again in half
    would not be those whose sums were kept.
    """

    @functools.wraps(backward)
    def plainly(ctx: Any, *grads: Any) -> Any:
        with without_autocast(grads[0].device.type):
            return backward(ctx, *grads)

    return cast(F, plainly)


def in_wide_precision(mix: F) -> F:
    """Make ``mix(self, q, k, v, *weights, **masks)`` see wide tensors, and cast its result back.

    Weights come wide, as a map makes them of its parameters.
    """

    @functools.wraps(mix)
    def wide(
        self: Any, q: Tensor, k: Tensor, v: Tensor, *weights: Tensor, **masks: Tensor | None
    ) -> Tensor:
        with without_autocast(q.device.type):
            return within_range(mix(self, widen(q), widen(k), widen(v), *weights, **masks), q.dtype)

    return cast(F, wide)


def float16_in_float32(forward: F) -> F:
    """Make a layer's ``forward(self, x, **others)`` see float32 for float16 tokens on a CPU.

    Most CPUs have no float16 arithmetic and multiply it slower than float32. Other devices have it,
    and there a layer runs in the dtype of its weights, as models do.
    """

    @functools.wraps(forward)
    def in_float32(self: nn.Module, x: Tensor, **others: Tensor | None) -> Tensor:
        if x.dtype != torch.float16 or x.device.type != "cpu":
            return cast(Tensor, forward(self, x, **others))
        learned = itertools.chain(self.named_parameters(), self.named_buffers())
        weights = {f"layer.{name}": widen(weight) for name, weight in learned}
        with without_autocast("cpu"):
            out = torch.func.functional_call(_Call(self, forward), weights, (widen(x),), others)
            return within_range(out, x.dtype)

    return cast(F, in_float32)


class _Call(nn.Module):
    """A method of a layer as a module's call: torch exchanges weights for such calls only."""

    def __init__(self, layer: nn.Module, forward: Callable[..., Tensor]) -> None:
        super().__init__()
        self.layer = layer
        self._forward = forward

    def forward(self, x: Tensor, **others: Tensor | None) -> Tensor:
        return self._forward(self.layer, x, **others)
