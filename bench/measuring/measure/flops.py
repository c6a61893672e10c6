"""FLOPs and elements of a call by operator counters: a check on the formulas."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from attentions.testing.counting import as_written, missing_formulas

aten = torch.ops.aten


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Counts of one call.

    Attributes:
        counted_flops: FLOPs by torch's formulas, and by ours for operators that it lacks.
        elementwise_elements: number of elements written by all operators without a formula.
        num_operators: number of dispatched operators, but for views and allocations.
    """

    counted_flops: int
    elementwise_elements: int
    num_operators: int


_NO_WORK = {
    aten._unsafe_view,
    aten._reshape_alias,
    aten.detach,
    aten.lift_fresh,
    aten.empty,
    aten.empty_like,
    aten.empty_strided,
    aten.new_empty,
    aten.new_empty_strided,
}
"""Operators that write nothing, though their schema does not call them views."""


class _Observer(TorchDispatchMode):
    """Counts FLOPs of each operator by torch's formula, and elements of those without one.

    `FlopCounterMode` itself hooks modules to name them, which fails under `autograd.grad`, and
    stops at FlexAttention, for which torch has a formula.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.formulas = {**flop_registry, **missing_formulas()}
        self.flops = 0
        self.elements = 0
        self.num_operators = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        packet = getattr(func, "overloadpacket", func)
        if getattr(func, "is_view", False) or packet in _NO_WORK:
            return out
        self.num_operators += 1
        if packet in self.formulas:
            self.flops += int(self.formulas[packet](*args, **kwargs, out_val=out))
        else:
            outs = out if isinstance(out, (tuple, list)) else (out,)
            self.elements += sum(t.numel() for t in outs if isinstance(t, Tensor))
        return out


def count(call: Callable[[], object]) -> Counts:
    """Run a call once more, without compilation, and count every operator."""
    with as_written(), _Observer() as observer:
        call()
    return Counts(
        counted_flops=observer.flops,
        elementwise_elements=observer.elements,
        num_operators=observer.num_operators,
    )


@dataclass(frozen=True, kw_only=True)
class FvcoreCount:
    """fvcore's count of one forward call.

    Attributes:
        flops: its multiply-adds, times two; None if it could not trace the module.
        unsupported: names of operators that it did not count, with their number.
    """

    flops: int | None
    unsupported: dict[str, int] = field(default_factory=dict)


class _Called(nn.Module):
    """A module with fixed keyword arguments, which fvcore cannot pass on."""

    def __init__(self, module: nn.Module, keywords: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.module = module
        self.keywords = keywords

    def forward(self, *tensors: Tensor) -> Any:
        return self.module(*tensors, **self.keywords)


def count_with_fvcore(
    module: nn.Module, tensors: tuple[Tensor, ...], keywords: Mapping[str, Tensor] | None = None
) -> FvcoreCount:
    """Trace a module with fvcore, which counts multiply-adds, and of forward passes only."""
    from fvcore.nn import FlopCountAnalysis

    logging.getLogger("fvcore.nn.jit_analysis").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            called = _Called(module, keywords) if keywords else module
            analysis = FlopCountAnalysis(called, tensors)
            total = analysis.total()
            return FvcoreCount(
                flops=None if math.isnan(total) else int(2 * total),
                unsupported=dict(analysis.unsupported_ops()),
            )
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # tracing runs foreign code, which may raise anything
            return FvcoreCount(flops=None, unsupported={f"not traced: {type(error).__name__}": 1})
