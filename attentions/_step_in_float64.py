"""`step` where the way to its output leads out of float32: once more, in float64.

As for `forward` (`_in_float64`). Its sums outlive the call, though: those that are no numbers of
their dtype stay in float64 until they are again. The output tells of them as well, since it reads
all of a state: what is infinite there gives no number here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ._in_float64 import (
    LARGE,
    are_finite,
    bound_of_entries,
    in_float64,
    in_range,
    is_finite,
    is_known_sound,
    mended,
)
from ._ordinary import is_ordinary
from ._overflow import bring_back, set_aside

if TYPE_CHECKING:
    from .base import Mechanism

Step = Callable[..., tuple[Tensor, Any]]


class WideState(NamedTuple):
    """A mechanism's state in float64.

    Attributes:
        state: as the mechanism has it, in float64 where it would be in another dtype.
    """

    state: Any


def finite_step(
    mechanism: Mechanism,
    step: Step,
    tokens: Sequence[Tensor],
    state: Any,
    gates: Mapping[str, Any],
    own: Callable[[], Any],
) -> tuple[Tensor, Any]:
    """An output without Inf and NaN if all that was given is finite, and the state after it.

    Args:
        mechanism: whose step it is.
        step: it, as a function of the mechanism, the tokens and a state.
        tokens: queries, keys and values, or the tokens of a layer.
        state: the mechanism's own, or one that this function gave.
        gates: by keyword.
        own: gives an empty state for such tokens; only its dtypes matter.
    """
    if isinstance(state, WideState):
        right, after = in_float64(step, mechanism, (*tokens, state.state), gates)
        return in_range(right, tokens[0].dtype), _narrow(after, own())
    aside = set_aside()
    out, after = step(mechanism, *tokens, state, **gates)
    is_sound = is_known_sound(out)
    bring_back(aside)
    has_backward = out.requires_grad and torch.is_grad_enabled()
    if (is_sound and not has_backward) or not is_ordinary(out) or out.dtype == torch.float64:
        return out, after
    is_large = has_backward and max(map(bound_of_entries, tokens)) > LARGE
    is_right = not is_large and (is_sound or is_finite(out))
    if is_right or not are_finite(tokens):
        return out, after
    right, after = in_float64(step, mechanism, (*tokens, state), gates)
    return mended(out, right), _narrow(after, own())


def _narrow(state: Any, own: Any) -> Any:
    """In the dtypes of an empty one, if what is finite is so in them."""
    if isinstance(state, Tensor):
        narrow = state.to(own.dtype)
        return WideState(state) if (narrow.isinf() & state.isfinite()).any() else narrow
    if not isinstance(state, tuple):
        return state
    parts = [_narrow(x, like) for x, like in zip(state, own, strict=True)]
    if any(isinstance(part, WideState) for part in parts):
        return WideState(state)
    return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
