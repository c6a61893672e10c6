"""Half inputs are computed in float32.

Feature maps raise entries to powers and normalisers add 1e-6: float16 cannot hold them, bfloat16
cannot tell them from nothing. Autocast is switched off too, as it would run the products in half.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)

F = TypeVar("F", bound=Callable[..., Tensor])


def widen(x: Tensor) -> Tensor:
    """Float32 for a half tensor, the tensor itself otherwise.

    A gradient may be larger than float16 can hold: that of a direction grows as 1 / ||x||. On its
    way back to float16 it stops at the largest finite value instead of becoming infinite.
    """
    if x.dtype not in HALF:
        return x
    wide = x.float()
    if x.dtype == torch.float16 and wide.requires_grad:
        wide.register_hook(_within_float16)
    return wide


def _within_float16(gradient: Tensor) -> Tensor:
    largest = torch.finfo(torch.float16).max
    return gradient.clamp(-largest, largest)


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


def in_wide_precision(mix: F) -> F:
    """Make ``mix(self, q, k, v, *weights, **masks)`` see wide tensors, and cast its result back.

    Weights come wide, as a map makes them of its parameters.
    """

    @functools.wraps(mix)
    def wide(
        self: Any, q: Tensor, k: Tensor, v: Tensor, *weights: Tensor, **masks: Tensor | None
    ) -> Tensor:
        with without_autocast(q.device.type):
            return mix(self, widen(q), widen(k), widen(v), *weights, **masks).to(q.dtype)

    return cast(F, wide)
