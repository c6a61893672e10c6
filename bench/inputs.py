"""Seeded inputs for a cell: the same numbers for every mechanism, on every machine."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.cell import KernelWorkload


def make(
    workload: KernelWorkload,
    *,
    seed: int,
    dtype: torch.dtype,
    device: torch.device,
    layout: str = "bhnd",
) -> tuple[Tensor, ...]:
    """Unit-normal inputs and a cotangent of the output, drawn in float32 and then rounded.

    Returns:
        ``(q, k, v, cotangent)``, each (B, H, N, D), for scope ``core``; ``(x, cotangent)``, each
        (B, N, H * D), for scope ``layer``. Inputs of a mode with a backward pass require grad.
        With layout ``bnhd`` the shape is the same and the strides are those of a (B, N, H, D)
        tensor, as projections leave it.
    """
    w = workload
    generator = torch.Generator().manual_seed(seed)
    shape: tuple[int, ...] = (w.batch_size, w.num_heads, w.seq_len, w.head_dim)
    count = 4
    if w.scope == "layer":
        shape, count = (w.batch_size, w.seq_len, w.num_heads * w.head_dim), 2
    shapes = [shape] * count
    if w.num_kv_heads is not None and w.scope == "core":
        shapes[1] = shapes[2] = (w.batch_size, w.num_kv_heads, w.seq_len, w.head_dim)
    if device.type == "meta":  # nothing is drawn where nothing is kept
        tensors = [torch.empty(each, dtype=dtype, device=device) for each in shapes]
    else:
        tensors = [torch.randn(each, generator=generator).to(device, dtype) for each in shapes]
    if layout == "bnhd" and w.scope == "core":
        tensors = [t.transpose(1, 2).contiguous().transpose(1, 2) for t in tensors]
    return (*(t.requires_grad_(w.has_backward) for t in tensors[:-1]), tensors[-1])
