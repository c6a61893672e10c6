"""Is a state one of its mechanism's? Asked where a step has failed, so that good ones cost nothing.

What torch says of a state of another dtype, batch or mechanism names none of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

_SINGLE = ""
"""The name of the one tensor that a state is."""


def what_is_wrong(state: Any, own: Any, dtype: torch.dtype, device: torch.device) -> str | None:
    """How a state differs from a mechanism's own, in words; None if it does not.

    Args:
        state: what was given.
        own: an empty one for such tokens; its device does not matter.
        dtype: of the tokens.
        device: of the tokens.
    """
    if type(state) is not type(own):
        return (
            f"state is of type {type(state).__name__}; a {type(own).__name__} is needed, as "
            "init_state or the step before gave it"
        )
    given = dict(_tensors(state))
    for name, like in _tensors(own):
        x = given.get(name)
        if x is None or (x.shape, x.dtype, x.device) != (like.shape, like.dtype, device):
            said = "missing" if x is None else _described(x, x.device)
            return (
                f"state{name} is {said}; tokens of {dtype} on {device} need "
                f"{_described(like, device)}"
            )
    return None


def _tensors(state: Any) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a state, with the names of their fields."""
    if isinstance(state, Tensor):
        yield _SINGLE, state
    elif isinstance(state, tuple):
        fields = getattr(state, "_fields", range(len(state)))
        for field, x in zip(fields, state, strict=True):
            if isinstance(x, Tensor):
                yield f".{field}", x


def _described(x: Tensor, device: torch.device) -> str:
    return f"{x.dtype} of shape {tuple(x.shape)} on {device}"
