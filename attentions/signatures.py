"""Signatures of methods: read, made, and held against the keywords of a call."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .geometry import Geometry


def keywords_of(method: Callable[..., Any]) -> tuple[str, ...] | None:
    """Keywords of a method, self aside; None if it takes anything."""
    parameters = list(inspect.signature(method).parameters.values())[1:]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return tuple(p.name for p in parameters if p.kind is not p.POSITIONAL_ONLY)


def constructor(base: type, settings: Mapping[str, Any]) -> Callable[..., None]:
    """A constructor that calls that of ``base``, and names settings with their defaults."""

    def __init__(self: Any, geometry: Geometry, **given: Any) -> None:
        base.__init__(self, geometry, **given)  # type: ignore[misc]

    word, last = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(key, word) for key in ("self", "geometry")]
    parameters += [inspect.Parameter(k, last, default=value) for k, value in settings.items()]
    __init__.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return __init__


def recording(init: Callable[..., None]) -> Callable[..., None]:
    """A constructor that keeps the hyperparameters that it was given, once it is done."""
    names = tuple(inspect.signature(init).parameters)[2:]  # self, geometry

    @functools.wraps(init)
    def recorded(self: Any, geometry: Geometry, *given: Any, **settings: Any) -> None:
        init(self, geometry, *given, **settings)
        self._settings = dict(zip(names, given, strict=False)) | settings

    return recorded


def refuse_unknown(
    mechanism: str, keywords: Mapping[str, Any], takes: Sequence[str] | None, *, where: str = ""
) -> None:
    """Say which argument a mechanism does not take, and which ones it does; None for any."""
    for key in keywords:
        if takes is not None and key not in takes:
            raise ValueError(
                f"{mechanism}: {key} was given; it takes no such argument{where}, but "
                f"{', '.join(takes) or 'none'}."
            )
