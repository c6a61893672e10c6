"""Steps of layers in float32 for float16 tokens on a CPU, as `float16_in_float32` has calls."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from ..precision import widen, within_range, without_autocast
from ..steps import map_tensors

F = TypeVar("F", bound=Callable[..., Any])


def step_in_float32(step: F) -> F:
    """Make a layer's ``step(self, x, state, **others)`` see float32 for float16 on a CPU.

    Not around a core whose state is in float16 itself, such as a cache of keys and values.
    """

    @functools.wraps(step)
    def in_float32(self: nn.Module, x: Tensor, state: Any, **others: Any) -> tuple[Tensor, Any]:
        dtypes: set[torch.dtype] = set()

        def note(tensor: Tensor) -> Tensor:
            dtypes.add(tensor.dtype)
            return tensor

        map_tensors(getattr(state, "core", None), note)
        is_narrow = torch.float16 in dtypes
        if x.dtype != torch.float16 or x.device.type != "cpu" or is_narrow:
            return cast("tuple[Tensor, Any]", step(self, x, state, **others))
        learned = itertools.chain(self.named_parameters(), self.named_buffers())
        weights = {f"layer.{name}": widen(weight) for name, weight in learned}
        with without_autocast("cpu"):
            call = _Step(self, step)
            out, after = torch.func.functional_call(call, weights, (widen(x), state), others)
            return within_range(out, x.dtype), after

    return cast(F, in_float32)


class _Step(nn.Module):
    """A step as a module's call: torch exchanges weights for such calls only."""

    def __init__(self, layer: nn.Module, step: Callable[..., Any]) -> None:
        super().__init__()
        self.layer = layer
        self._step = step

    def forward(self, x: Tensor, state: Any, **others: Any) -> Any:
        return self._step(self.layer, x, state, **others)
