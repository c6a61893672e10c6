"""Sequences that stand one after the other in one row: each is a call of its own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

_WHOLE_NUMBERS = (torch.int32, torch.int64)


def by_document(
    mechanism: str,
    call: Callable[..., Tensor],
    qkv: Mapping[str, Tensor],
    cu_seqlens: Any,
    token_axes: Mapping[str, int],
    keywords: Mapping[str, Any],
) -> Tensor:
    """Outputs of all sequences of a row, (1, H, N, E), from a call for each.

    So no pair of tokens of different sequences costs anything, and none can meet. The bounds are
    read, which synchronises a device.

    Args:
        mechanism: for messages.
        call: a core.
        qkv: its inputs by name.
        cu_seqlens: (S + 1,) int32 or int64, from 0 to N: where each of S sequences begins, and the
            end. Where two are equal the sequence is empty.
        token_axes: which axis of further arguments counts tokens.
        keywords: these arguments; others are the same for all sequences.

    Raises:
        ValueError: bounds of another kind, another batch size than 1, or unequal lengths.
    """
    length = qkv["q"].shape[2]
    if any(len(x) != 1 or x.shape[2] != length for x in qkv.values()):
        raise ValueError(
            f"{mechanism}: cu_seqlens was given and q, k and v are of shapes "
            f"{', '.join(str(tuple(x.shape)) for x in qkv.values())}; one row with as many keys as "
            "queries is needed."
        )
    bounds = _bounds(cu_seqlens)
    if not bounds or bounds[0] != 0 or bounds[-1] != length or bounds != sorted(bounds):
        raise ValueError(
            f"{mechanism}: cu_seqlens is {bounds or cu_seqlens!r}; an int32 or int64 tensor that "
            f"rises from 0 to the number of tokens, {length}, is needed."
        )
    outputs = []
    for start, end in itertools.pairwise(bounds):
        if start < end:
            size = end - start
            some = {
                name: x.narrow(token_axes[name], start, size) if name in token_axes else x
                for name, x in keywords.items()
            }
            outputs.append(call(**{x: qkv[x].narrow(2, start, size) for x in "qkv"}, **some))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)


def _bounds(cu_seqlens: Any) -> list[int]:
    if not isinstance(cu_seqlens, Tensor) or cu_seqlens.dim() != 1:
        return []
    return cu_seqlens.tolist() if cu_seqlens.dtype in _WHOLE_NUMBERS else []
