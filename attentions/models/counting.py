"""Parameters and multiply-adds of a model, counted on meta tensors: no weight is ever made.

Papers count by tools that see different parts of a model, so each part is kept apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

_NORM_COSTS: dict[type[nn.Module], int] = {nn.LayerNorm: 5, nn.BatchNorm2d: 2}
"""Operations per element that fvcore takes for norms; it adds them to the multiply-adds."""

_COUNTED = (nn.Linear, nn.Conv2d, *_NORM_COSTS)
"""Modules that every counter knows."""


@dataclass(frozen=True, kw_only=True)
class ModelCounts:
    """Costs of one image of a size. One multiply-add is two FLOPs.

    Attributes:
        parameters: all of them.
        module_parameters: those of Linears, convolutions and norms; positions, scales and tables
            that a block holds itself are left out.
        multiply_adds: of all matrix products and convolutions.
        module_multiply_adds: of Linears and convolutions; the products of attention are left out.
        norm_operations: of norms, by fvcore's rough prices.
    """

    parameters: int
    module_parameters: int
    multiply_adds: int
    module_multiply_adds: int
    norm_operations: int


def count_model(build: Callable[[], nn.Module], image_size: int) -> ModelCounts:
    """Build a model on the meta device and run one image through it.

    Args:
        build: makes the model; called under ``torch.device("meta")``.
        image_size: S, pixels along a side.
    """
    with torch.device("meta"):
        model, image = build(), torch.empty(1, 3, image_size, image_size)
    model = model.to("meta").eval()  # projections that are drawn at random are made elsewhere
    norm_operations = 0

    def see_norm(module: nn.Module, _: Any, out: Tensor) -> None:
        nonlocal norm_operations
        price = next(p for kind, p in _NORM_COSTS.items() if isinstance(module, kind))
        norm_operations += price * out.numel()

    for module in model.modules():
        if isinstance(module, tuple(_NORM_COSTS)):
            module.register_forward_hook(see_norm)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(image)
    flops = counter.get_flop_counts()["Global"]
    aten = torch.ops.aten
    products = sum(flops.get(op, 0) for op in (aten.mm, aten.addmm, aten.convolution))
    return ModelCounts(
        parameters=sum(p.numel() for p in model.parameters()),
        module_parameters=sum(
            p.numel() for m in model.modules() if isinstance(m, _COUNTED) for p in m.parameters()
        ),
        multiply_adds=sum(flops.values()) // 2,
        module_multiply_adds=products // 2,
        norm_operations=norm_operations,
    )
