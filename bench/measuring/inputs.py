"""Seeded inputs for a cell: the same numbers for every mechanism, on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from bench.core.cell import KernelWorkload
from bench.measuring.drawn_gates import DrawnGates

_NUM_WINDOWS = 4099
"""Number of windows of a draw; prime, so that any step visits all before one is repeated."""
_STEP = 1009
_WINDOW_SEED = 500
_GATE_SEED = 10_000_000
"""Added to the seed of an input set for gates, so that their tokens differ from its queries."""


def make(
    workload: KernelWorkload,
    *,
    seed: int,
    dtype: torch.dtype,
    device: torch.device,
    layout: str = "bhnd",
    gates: DrawnGates | None = None,
) -> tuple[Tensor, ...]:
    """Unit-normal inputs and a cotangent of the output, drawn in float32 and then rounded.

    Args:
        workload: the shape.
        seed: the same seed gives the same values.
        dtype: dtype of all tensors.
        device: device of all tensors; on ``meta`` they have no values.
        layout: ``bhnd``, or ``bnhd``: the shape is the same, and the strides are those of a
            (B, N, H, D) tensor, as projections leave it.
        gates: gates of the core, if it takes any. They are not unit-normal, but projected from
            unit-normal tokens as by an untrained layer.

    Returns:
        ``(q, k, v, *gates, cotangent)``, each (B, H, N, D), keys and values (B, H_kv, M, D), gates
        (B, H, N) or (B, H, N, D), for scope ``core``; ``(x, cotangent)``, each (B, N, H * D), for
        scope ``layer``. Inputs of a mode with a backward pass require grad. The cotangent is zero
        at padded queries, whose outputs do not count.
    """
    w = workload
    generator = torch.Generator().manual_seed(seed)
    shape: tuple[int, ...] = (w.batch_size, w.num_heads, w.seq_len, w.head_dim)
    count = 4
    if w.scope == "layer":
        shape, count = (w.batch_size, w.seq_len, w.num_heads * w.head_dim), 2
    shapes = [shape] * count
    if w.scope == "core":
        kv_heads = w.num_kv_heads or w.num_heads
        shapes[1] = shapes[2] = (w.batch_size, kv_heads, w.num_keys, w.head_dim)
    if device.type == "meta":  # nothing is drawn where nothing is kept
        tensors = [torch.empty(each, dtype=dtype, device=device) for each in shapes]
    else:
        tensors = [torch.randn(each, generator=generator).to(device, dtype) for each in shapes]
    kept = kept_queries(w, device)
    if kept is not None:
        tensors[-1].masked_fill_(~kept, 0.0)
    if gates is not None:
        tensors[-1:-1] = _drawn(gates, w, seed, dtype, device)
    if layout == "bnhd" and w.scope == "core":
        tensors = [t.transpose(1, 2).contiguous().transpose(1, 2) for t in tensors]
    return (*(t.requires_grad_(w.has_backward) for t in tensors[:-1]), tensors[-1])


def _drawn(
    gates: DrawnGates, w: KernelWorkload, seed: int, dtype: torch.dtype, device: torch.device
) -> list[Tensor]:
    """Contiguous gates of the input set of a seed; without values on ``meta``."""
    if device.type == "meta":
        shapes = gates.shapes(w.batch_size, w.seq_len).values()
        return [torch.empty(shape, dtype=dtype, device=device) for shape in shapes]
    drawn = gates.draw(w.batch_size, w.seq_len, seed=seed + _GATE_SEED, dtype=dtype, device=device)
    return [x.contiguous() for x in drawn]


def at_tokens(tensors: Sequence[Tensor], tokens: slice) -> list[Tensor]:
    """Slice each input of a call along its axis of tokens.

    Args:
        tensors: inputs, q or x first. Its last axis but one is that of the tokens in all of them,
            counted from the front: a gate may have no axis of channels behind it.
        tokens: slice of that axis.
    """
    before = [slice(None)] * (tensors[0].dim() - 2)
    return [x[(*before, tokens)] for x in tensors]


def with_channels(tensors: Sequence[Tensor | None], like: Tensor) -> list[Tensor | None]:
    """Reshape inputs of a call so that tokens are the last axis but one.

    A gate of (B, H, N) becomes (B, H, N, 1), one of (B, H, N, R, D) becomes (B, H, N, R * D).
    """
    dim = like.dim()
    return [
        x if x is None else x.unsqueeze(-1) if x.dim() < dim else x.flatten(dim - 1)
        for x in tensors
    ]


def key_mask(workload: KernelWorkload, device: torch.device) -> Tensor | None:
    """(B, M) bool, True for each key that is not padding; None without a mask."""
    w = workload
    if not w.is_masked:
        return None
    return _kept(w.num_keys, [keys for _, keys in lengths_of_rows(w)], device)


def kept_queries(workload: KernelWorkload, device: torch.device) -> Tensor | None:
    """(B, 1, N, 1) bool, True for each query that is not padding; None without a mask."""
    w = workload
    if not w.is_masked:
        return None
    return _kept(w.seq_len, [queries for queries, _ in lengths_of_rows(w)], device)[
        :, None, :, None
    ]


def lengths_of_rows(workload: KernelWorkload) -> list[tuple[int, int]]:
    """Numbers of queries and of keys that are not padding, for each row of the batch."""
    return [lengths for lengths, count in workload.row_lens.items() for _ in range(count)]


def _kept(num_tokens: int, lengths: list[int], device: torch.device) -> Tensor:
    """(B, N), True for the first tokens of each row, as many as it has."""
    ends = torch.tensor(lengths, device=device)
    return torch.arange(num_tokens, device=device) < ends[:, None]


@torch.no_grad()
def renew(tensor: Tensor, number: int, place: int) -> None:
    """Overwrite a tensor in place with other unit-normal values, at the cost of a copy.

    They are a window of one longer draw, which is cached for all tensors of this size. Every
    element changes from one number to the next. A graph made from `tensor` becomes invalid.
    `number` selects one of 4,099 windows of values, and `place`, the index of the input in its
    call, its own draws.
    """
    draw = _draw(tensor.numel() + _NUM_WINDOWS, place, tensor.dtype, tensor.device)
    start = number * _STEP % _NUM_WINDOWS
    tensor.copy_(draw[start : start + tensor.numel()].view(tensor.shape))


@cache
def _draw(count: int, place: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(_WINDOW_SEED + place)
    return torch.randn(count, generator=generator).to(device, dtype)
