"""Inputs: unit-normal ones, others of one norm, and those that models produce and formulas fear."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bench.conformance.precision import LARGEST_NORM

PLAIN = "unit normal"
LARGE = "norm 50"
HIDDEN = "all keys hidden"
"""By a key mask; the inputs are unit-normal."""

Inputs = tuple[Tensor, ...]


def of_norm(tensors: Inputs, norm: float) -> Inputs:
    """Queries and keys, or the tokens of a layer, with rows of one norm; values as they are."""
    return _on_queries_and_keys(tensors, lambda x: norm * x / x.norm(dim=-1, keepdim=True))


def _on_queries_and_keys(tensors: Inputs, change: Callable[[Tensor], Tensor]) -> Inputs:
    places = 2 if len(tensors) > 1 else 1
    return (*(change(x) for x in tensors[:places]), *tensors[places:])


def _last_row_zero(x: Tensor) -> Tensor:
    changed = x.clone()
    changed[..., -1, :] = 0.0
    return changed


def hard_inputs(tensors: Inputs, dtype: torch.dtype) -> dict[str, Inputs]:
    """Name -> inputs on which every mechanism of ours is finite.

    The last row is the one that is changed where only one is, as it sees all keys in a causal form.
    """
    first, rest = tensors[0], tensors[1:]
    cases: dict[str, Inputs] = {}
    if rest:
        q, k, v = tensors
        cases["a zero query"] = (_last_row_zero(q), k, v)
        cases["a zero key"] = (q, _last_row_zero(k), v)
        cases["all queries zero"] = (torch.zeros_like(q), k, v)
        cases["all keys zero"] = (q, torch.zeros_like(k), v)
    else:
        cases["a zero token"] = (_last_row_zero(first),)

    def everywhere(change: Callable[[Tensor], Tensor]) -> Inputs:
        return _on_queries_and_keys(tensors, change)

    cases["all zero"] = everywhere(torch.zeros_like)
    cases["one number everywhere"] = everywhere(torch.ones_like)
    cases["one token everywhere"] = everywhere(lambda x: x[..., :1, :].expand_as(x).contiguous())
    cases["all negative"] = everywhere(lambda x: -x.abs())
    for norm in (1e-6, 1e-3, 1.0, 50.0, LARGEST_NORM[dtype]):
        cases[f"norm {norm:g}"] = of_norm(tensors, norm)
    return cases
