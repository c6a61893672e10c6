"""Efficient Attention as its authors' code computes it."""

from __future__ import annotations

import torch
from torch import Tensor

from ..mechanisms.efficient import Efficient
from .entry import published


@published(
    "efficient",
    title="Efficient Attention, published operators",
    source="cmsflash/efficient-attention, commit 46a5f9ea",
)
def efficient_published(ours: Efficient, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """`efficient` by its authors' operators: head by head, on images with their channels first.

        out = softmax(q over channels) (softmax(k over tokens)^T v)

    Hazards:
        - None of its own: both softmaxes are torch's, and nothing divides.

    Differences:
        - `efficient` takes all heads at once, and masks.
    """
    mixed = []
    channels_first = (x.transpose(-2, -1).unbind(1) for x in (q, k, v))
    for query, key, value in zip(*channels_first, strict=True):
        context = key.softmax(dim=2) @ value.transpose(1, 2)
        mixed.append(context.transpose(1, 2) @ query.softmax(dim=1))
    return torch.stack(mixed, dim=1).transpose(-2, -1)
