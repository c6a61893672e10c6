"""Checks before a core's `step` and `init_state`, and the keywords that an engine's core claims.

A step looks at nothing but its tokens. Only where it fails is the state compared with the core's
own, so that the error says what is wrong with it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from .checks import whole
from .inputs import DTYPES, check_devices
from .signatures import keywords_of, refuse_unknown


def with_checked_tokens(step: Callable[..., tuple[Tensor, Any]]) -> Callable[..., Any]:
    """Check the tokens before a core's `step`, and the state if the step fails."""
    takes = keywords_of(step)

    @functools.wraps(step)
    def checked(self: Any, q: Tensor, k: Tensor, v: Tensor, state: Any, **gates: Any) -> Any:
        if not self.capabilities.recurrent:
            raise TypeError(f"{self.name} has no recurrent form.")
        if torch.compiler.is_compiling():
            return step(self, q, k, v, state, **gates)
        self._check_step(q, k, v)
        if gates:
            refuse_unknown(self.name, gates, takes, where=" for a step")
            check_devices(self.name, q, gates)
        if not isinstance(state, Tensor | tuple):  # sums would take None or 0 for an empty one
            _refuse_another_state(self, q, k, state)
        try:
            out, after = step(self, q, k, v, state, **gates)
        except (AttributeError, LookupError, RuntimeError, TypeError) as error:
            _refuse_another_state(self, q, k, state, error)
            raise
        if out.shape[0] != q.shape[0]:
            raise ValueError(
                f"{self.name}: the state is of a batch of {out.shape[0]}, and the tokens are of "
                f"one of {q.shape[0]}."
            )
        return out, after

    return checked


def with_checked_sizes(init_state: Callable[..., Any]) -> Callable[..., Any]:
    """Check the batch size and the dtype before `init_state`."""

    @functools.wraps(init_state)
    def checked(self: Any, batch_size: int, **settings: Any) -> Any:
        if not self.capabilities.recurrent:
            raise TypeError(f"{self.name} has no recurrent form.")
        if not torch.compiler.is_compiling():
            whole(self.name, "batch_size", batch_size, 0)
            dtype = settings.get("dtype", torch.float32)  # Python says which argument is missing
            if dtype not in DTYPES:
                raise ValueError(
                    f"{self.name}: dtype is {dtype}; one of {', '.join(DTYPES.values())} is "
                    "needed, that of the tokens to come."
                )
        return init_state(self, batch_size, **settings)

    return checked


def _refuse_another_state(
    core: Any, q: Tensor, k: Tensor, state: Any, error: Exception | None = None
) -> None:
    """Raise a ValueError that says how a state differs from the core's own, if it does."""
    why = what_is_wrong(state, core._empty_state_like(q, k), q.dtype, q.device)
    if why is not None:
        raise ValueError(f"{core.name}: {why}.") from error


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
        yield "", state
    elif isinstance(state, tuple):
        fields = getattr(state, "_fields", range(len(state)))
        for field, x in zip(fields, state, strict=True):
            if isinstance(x, Tensor):
                yield f".{field}", x


def _described(x: Tensor, device: torch.device) -> str:
    return f"{x.dtype} of shape {tuple(x.shape)} on {device}"


def name_keywords(cls: Any) -> None:
    """Let `forward` and `step` of a core name the masks and gates that it claims.

    An engine takes ``**gates``, whatever their names. Who calls one of its cores, or reads its
    signature, meets the names: an unknown keyword is refused, and `step` is checked again, since
    its check reads the names.
    """
    masks = {"key_mask": "padding", "mask": "dense"}
    for method in ("forward", "step"):
        engine = inspect.unwrap(getattr(cls, method))
        parameters = inspect.signature(engine).parameters
        if (
            "gates" not in parameters
            or parameters["gates"].kind is not inspect.Parameter.VAR_KEYWORD
        ):
            continue
        claimed = [p for p in list(parameters.values())[:-1] if p.kind is not p.KEYWORD_ONLY]
        names = [m for m in masks if m in parameters and masks[m] in cls.capabilities.masks]
        claimed += [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None)
            for name in (*names, *cls.capabilities.gates)
        ]
        named = _with_signature(engine, inspect.signature(engine).replace(parameters=claimed))
        setattr(cls, method, with_checked_tokens(named) if method == "step" else named)


def _with_signature(method: Callable[..., Any], signature: inspect.Signature) -> Callable[..., Any]:
    @functools.wraps(method)
    def named(self: Any, *args: Any, **keywords: Any) -> Any:
        return method(self, *args, **keywords)

    named.__signature__ = signature  # type: ignore[attr-defined]
    return named
