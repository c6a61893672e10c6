"""Inputs that occur in models and are numerically hard; every mechanism of ours is finite there."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

LARGEST_NORM = {torch.float32: 1e3, torch.bfloat16: 1e3, torch.float16: 1e2}
"""Largest norm of rows on which outputs and gradients must be finite; the smallest is 1e-6."""

Inputs = tuple[Tensor, ...]


def of_norm(tensors: Inputs, norm: float) -> Inputs:
    """Queries and keys, or the tokens of a layer, with rows of one norm; values as they are."""
    return _on_queries_and_keys(tensors, lambda x: norm * x / x.norm(dim=-1, keepdim=True))


def _on_queries_and_keys(tensors: Inputs, change: Callable[[Tensor], Tensor]) -> Inputs:
    places = 2 if len(tensors) > 1 else 1
    return (*(change(x) for x in tensors[:places]), *tensors[places:])


def _with_zero_rows(x: Tensor) -> Tensor:
    """The first row, which is all that the first query of a causal form sees, and the last."""
    changed = x.clone()
    changed[..., 0, :] = 0.0
    changed[..., -1, :] = 0.0
    return changed


def hard_inputs(tensors: Inputs, dtype: torch.dtype) -> dict[str, Inputs]:
    """Name -> inputs, made of ordinary queries, keys and values, or of a layer's tokens."""
    first, rest = tensors[0], tensors[1:]
    cases: dict[str, Inputs] = {}
    if rest:
        q, k, v = tensors
        cases["zero queries"] = (_with_zero_rows(q), k, v)
        cases["zero keys"] = (q, _with_zero_rows(k), v)
        cases["all queries zero"] = (torch.zeros_like(q), k, v)
        cases["all keys zero"] = (q, torch.zeros_like(k), v)
    else:
        cases["zero tokens"] = (_with_zero_rows(first),)

    def everywhere(change: Callable[[Tensor], Tensor]) -> Inputs:
        return _on_queries_and_keys(tensors, change)

    cases["all zero"] = everywhere(torch.zeros_like)
    cases["one number everywhere"] = everywhere(torch.ones_like)
    cases["one token everywhere"] = everywhere(lambda x: x[..., :1, :].expand_as(x).contiguous())
    cases["all negative"] = everywhere(lambda x: -x.abs())
    for norm in (1e-6, 1e-3, 1.0, 50.0, LARGEST_NORM[dtype]):
        cases[f"norm {norm:g}"] = of_norm(tensors, norm)
    return cases
