"""Checks before a core's `step` and `init_state`, and the keywords that an engine's core claims.

A step compares its state with the core's own: torch would broadcast one of another batch.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from .checks import whole
from .inputs import DTYPES, check_devices
from .maths.pairs.masks import hide_keys
from .precision import is_autocast
from .signatures import keywords_of, refuse_unknown


def with_checked_tokens(step: Callable[..., tuple[Tensor, Any]]) -> Callable[..., Any]:
    """Check the tokens and the state before a core's `step`."""
    takes = keywords_of(step)

    @functools.wraps(step)
    def checked(self: Any, q: Tensor, k: Tensor, v: Tensor, state: Any, **gates: Any) -> Any:
        if not self.capabilities.recurrent:
            raise TypeError(f"{self.name} has no recurrent form.")
        if not torch.compiler.is_compiling():
            self._check_step(q, k, v)
            if gates:
                refuse_unknown(self.name, gates, takes, where=" for a step")
                check_devices(self.name, q, gates)
        if (key_mask := gates.get("key_mask")) is not None:  # 0 times NaN would be NaN
            k, v = (hide_keys(self.name, x, key_mask) for x in (k, v))
        # Not for a parent's step, to which a child may hand a part of its own state.
        if type(self).step is checked and not torch.compiler.is_compiling():
            _refuse_another_state(self, q, k, state)
        return step(self, q, k, v, state, **gates)

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


def map_tensors(state: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same state with each tensor changed; numbers stay."""
    if isinstance(state, Tensor):
        return change(state)
    if isinstance(state, tuple):
        parts = [map_tensors(part, change) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
    return state


def _refuse_another_state(core: Any, q: Tensor, k: Tensor, state: Any) -> None:
    """Raise a ValueError that says how a state differs from the core's own, if it does.

    The core keeps its last empty state: to make one takes as long as a step.
    """
    tokens = q.shape[0], k.shape[1], q.dtype, q.device, is_autocast(q.device.type)
    kept, own = core.__dict__.get("_empty_state", (None, None))
    if kept != tokens:
        try:
            own = core._empty_state_like(q, k, torch.device("meta"))  # it takes no memory
        except RuntimeError:  # it begins with a tensor of the core's, which is elsewhere
            found = core._empty_state_like(q, k, q.device)
            own = map_tensors(found, lambda x: torch.empty(x.shape, dtype=x.dtype, device="meta"))
        core.__dict__["_empty_state"] = tokens, own
    why = what_is_wrong(state, own, q.dtype, q.device)
    if why is not None:
        raise ValueError(f"{core.name}: {why}.")


def what_is_wrong(state: Any, own: Any, dtype: torch.dtype, device: torch.device) -> str | None:
    """How a state differs from a mechanism's own, in words; None if it does not.

    Under autocast the dtype may be another, since torch casts there.

    Args:
        state: what was given.
        own: an empty one for such tokens; its device does not matter. An axis of size 0 grows with
            the tokens: any size will do.
        dtype: of the tokens.
        device: of the tokens.
    """
    if type(state) is not type(own):
        return (
            f"state is of type {type(state).__name__}; a {type(own).__name__} is needed, as "
            "init_state or the step before gave it"
        )
    given, wanted = dict(_tensors(state)), dict(_tensors(own))
    is_cast = is_autocast(device.type)
    for name in wanted | given:
        x, like = given.get(name), wanted.get(name)
        if x is None or like is None or x.device != device or not _is_like(x, like, is_cast):
            said = "missing" if x is None else _described(x, x.device)
            needed = "none" if like is None else _described(like, device)
            return f"state{name} is {said}; tokens of {dtype} on {device} need {needed}"
    return None


def _is_like(x: Tensor, like: Tensor, is_cast: bool) -> bool:
    """Whether a tensor has the sizes of another, those of its empty axes aside, and its dtype."""
    if x.shape != like.shape:
        sizes = zip(x.shape, like.shape, strict=False)
        if x.dim() != like.dim() or any(size not in (0, has) for has, size in sizes):
            return False
    return is_cast or x.dtype == like.dtype


def _tensors(state: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors of a state, with the names of their fields."""
    if isinstance(state, Tensor):
        yield name, state
    elif isinstance(state, tuple):
        fields = getattr(state, "_fields", range(len(state)))
        for field, x in zip(fields, state, strict=True):
            yield from _tensors(x, f"{name}.{field}")


def _described(x: Tensor, device: torch.device) -> str:
    return f"{x.dtype} of shape {tuple(x.shape)} on {device}"


def name_keywords(cls: Any, methods: Sequence[str] = ("forward", "step")) -> None:
    """Let `forward` and `step` name the masks and gates that a mechanism claims.

    An engine takes ``**gates``, whatever their names. Who calls one of its cores, or reads its
    signature, meets the names: an unknown keyword is refused, and `step` is checked again, since
    its check reads the names.
    """
    masks = {"key_mask": "padding", "mask": "dense"}
    for method in methods:
        engine = getattr(cls, method)
        # Of a parent's: not what names its keywords, but what else stands around `forward`.
        engine = inspect.unwrap(engine) if method == "step" else getattr(engine, "engine", engine)
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
    named.engine = method  # type: ignore[attr-defined]
    return named
