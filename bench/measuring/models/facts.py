"""FLOPs of a model's call, counted on meta tensors, which have shapes and hold no values."""

from __future__ import annotations

import torch
from torch import nn

from bench.core.cell import ModelWorkload
from bench.measuring.measure.flops import count


def forward_flops(module: nn.Module, w: ModelWorkload) -> int | None:
    """FLOPs of one forward call of a model on meta, by torch's counter, two per multiply-add.

    None if the call fails on meta tensors, for example because its code reads values.
    """
    shape = (1, 3, w.image_size, w.image_size)  # every image takes as many
    images = torch.empty(shape, dtype=getattr(torch, w.dtype), device="meta")

    def call() -> None:
        with torch.no_grad():
            module(images)

    module.to(images.dtype).eval()
    try:
        return w.batch_size * count(call).counted_flops
    except Exception:  # a user's code may raise anything; the trial shows whether it runs
        return None
