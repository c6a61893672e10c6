"""Tables that follow from sizes alone, such as angles of places: made once, and kept."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from ..steps import map_tensors

_MOST = 8
"""Tables of one kind that are kept; the oldest makes room."""

Sizes = ParamSpec("Sizes")
Table = TypeVar("Table", bound=Tensor | tuple[Tensor, ...])


def kept(make: Callable[Sizes, Table]) -> Callable[Sizes, Table]:
    """Keep the tensors that a function makes of a few hashable arguments.

    Not those that belong to one call: what a compiler traces, or what a mode such as torch's fake
    tensors puts in their place.
    """
    tables: dict[object, Table] = {}

    @functools.wraps(make)
    def table(*sizes: Sizes.args, **others: Sizes.kwargs) -> Table:
        if torch.compiler.is_compiling():
            return make(*sizes, **others)
        key = sizes, *others.items()
        if (known := tables.get(key)) is not None:
            return known
        # A table first made under inference mode would be of no use to a later backward pass, nor
        # one that is wrapped for a transform such as `torch.func.hessian` to what comes after it.
        with torch.inference_mode(False):
            found: Table = map_tensors(make(*sizes, **others), torch.func.debug_unwrap)
        if all(type(x) is Tensor for x in (found if isinstance(found, tuple) else (found,))):
            if len(tables) >= _MOST:
                tables.pop([*tables][0], None)  # noqa: RUF015  another thread may change it meanwhile
            tables[key] = found
        return found

    return table
