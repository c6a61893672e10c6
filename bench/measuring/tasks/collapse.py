"""Whether a trained model's keys have collapsed onto the floor that is added to their features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from bench.measuring.tasks.base import Batch

MOST = 0.95
"""The share of key features at the floor above which keys look alike. `performer` at 98 % accuracy
had 0.81 of them there, all runs at one in four had 0.99 (recall, layer 0)."""


@torch.no_grad()
def has_collapsed(model: nn.Module, batch: Batch) -> bool | None:
    """Whether nearly all key features of a batch lie at the floor, in any layer of a model.

    A core with a floor has a method ``floor_share(k)``: how many of the features of these keys, (B,
    H, N, D), lie within 1 % of it, from 0 to 1; None where that says nothing. Without such a core
    None.
    """
    shares: list[float] = []
    cores = [module for module in model.modules() if hasattr(module, "floor_share")]
    watches = [core.register_forward_pre_hook(_watch(shares)) for core in cores]
    try:
        model(batch.inputs, batch.positions)
    finally:
        for watch in watches:
            watch.remove()
    return any(share > MOST for share in shares) if shares else None


def _watch(shares: list[float]) -> Callable[[Any, tuple[Any, ...]], None]:
    def watch(core: Any, inputs: tuple[Any, ...]) -> None:
        share = core.floor_share(inputs[1])
        if share is not None:
            shares.append(share)

    return watch
