"""Inputs: unit-normal ones, others of one norm, and those that break formulas."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

LENGTHS = (64, 1024, 4096, 16384)
NORMS = (1e-6, 1e-3, 1.0, 50.0)
NORM_LEN = 1024
"""The length at which norms are compared."""
PLAIN = "unit normal"
HARD_LEN = 64
"""An 8 x 8 grid. What is hard about these inputs does not depend on the length."""

HIDDEN = "all keys hidden"
"""By a key mask; the inputs are unit-normal."""
MAGNITUDES = (
    *(1e-44, 1e-38, 1e-30, 1e-20),
    *(1e2, 1e3, 1e4, 6.5e4, 1e6, 1e9, 1e12, 1e15, 1e18, 1e21, 1e25, 1e30, 3.3e38),
)
"""65,000 is nearly all that float16 holds, and the last nearly all that float32 and bfloat16 do."""

Inputs = tuple[Tensor, ...]


def of_norm(tensors: Inputs, norm: float) -> Inputs:
    """Queries and keys, or the tokens of a layer, with rows of one norm; values as they are."""
    return _on_queries_and_keys(tensors, lambda x: norm * x / x.norm(dim=-1, keepdim=True))


def of_magnitude(tensors: Inputs, magnitude: float) -> Inputs:
    """Queries and keys, or the tokens of a layer, with every number plus or minus one magnitude."""
    return _on_queries_and_keys(tensors, lambda x: x.sign() * magnitude)


def with_magnitude(tensors: Inputs, magnitude: float) -> dict[str, Inputs]:
    """Name -> inputs in which some or all numbers are of one size: what may break in several ways.

    A layer has the first five only, in its tokens.
    """

    def everywhere(change: Callable[[Tensor], Tensor]) -> Inputs:
        return _on_queries_and_keys(tensors, change)

    signs = of_magnitude(tensors, magnitude)
    cases = {
        "all numbers, plus or minus": signs,
        "one number everywhere": everywhere(lambda x: torch.full_like(x, magnitude)),
        "one channel": everywhere(lambda x: _first_channel(x, magnitude)),
        "one entry": everywhere(lambda x: _last_entries(x, magnitude)),
        "two opposite entries": everywhere(lambda x: _last_entries(x, magnitude, -magnitude)),
    }
    if len(tensors) > 1:
        q, k, v = tensors
        large_v = v.sign() * magnitude
        cases["queries beside keys of zero"] = (signs[0], torch.zeros_like(k), v)
        cases["keys beside queries of zero"] = (torch.zeros_like(q), signs[1], v)
        cases["values"] = (q, k, large_v)
        cases["queries, keys and values"] = (*signs[:2], large_v)
    return cases


def _on_queries_and_keys(tensors: Inputs, change: Callable[[Tensor], Tensor]) -> Inputs:
    places = 2 if len(tensors) > 1 else 1
    return (*(change(x) for x in tensors[:places]), *tensors[places:])


def _last_row(x: Tensor, value: float) -> Tensor:
    changed = x.clone()
    changed[..., -1, :] = value
    return changed


def _first_channel(x: Tensor, value: float) -> Tensor:
    changed = x.clone()
    changed[..., 0] = value
    return changed


def _last_entries(x: Tensor, *values: float) -> Tensor:
    """The first channel of the last rows, the last one first."""
    changed = x.clone()
    for row, value in enumerate(values, start=1):
        changed[..., -row, 0] = value
    return changed


def _every_second_zero(x: Tensor) -> Tensor:
    changed = x.clone()
    changed[..., ::2, :] = 0.0
    return changed


def hard_inputs(tensors: Inputs, dtype: torch.dtype) -> dict[str, Inputs]:
    """Name -> inputs: those of the goldens' adversarial cases, and a few more.

    The last row is the one that is changed where only one is, as it sees all keys in a causal form.
    """
    first, rest = tensors[0], tensors[1:]
    cases: dict[str, Inputs] = {}
    if rest:
        q, k, v = tensors
        cases["a zero query"] = (_last_row(q, 0.0), k, v)
        cases["a zero key"] = (q, _last_row(k, 0.0), v)
        cases["all queries zero"] = (torch.zeros_like(q), k, v)
        cases["all keys zero"] = (q, torch.zeros_like(k), v)
    else:
        cases["a zero token"] = (_last_row(first, 0.0),)

    def everywhere(change: Callable[[Tensor], Tensor]) -> Inputs:
        return _on_queries_and_keys(tensors, change)

    half = torch.finfo(dtype).max / 2
    cases["all zero"] = everywhere(torch.zeros_like)
    cases["one number everywhere"] = everywhere(torch.ones_like)
    cases["one token everywhere"] = everywhere(lambda x: x[..., :1, :].expand_as(x).contiguous())
    cases["all negative"] = everywhere(lambda x: -x.abs())
    cases["norm 1e-6"] = of_norm(tensors, 1e-6)
    cases["norm 50"] = of_norm(tensors, 50.0)
    if rest:  # what a layer projects from such tokens is itself no number of a narrow dtype
        cases["every number 1e4"] = of_magnitude(tensors, 1e4)
        cases["one channel 1e4"] = everywhere(lambda x: _first_channel(x, 1e4))
        cases["every second token zero, the rest 1e4"] = everywhere(
            lambda x: _every_second_zero(x.sign() * 1e4)
        )
        cases["values of 6.5e4"] = (*tensors[:2], tensors[2].sign() * 6.5e4)
        cases["half the largest number"] = of_magnitude(tensors, half)
    return cases
