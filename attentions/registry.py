"""The registry of mechanisms: those of the packages `HOMES`, and of plugins."""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any, TypeVar

from . import plugins as _plugins
from .base import Attention, Geometry, Mechanism
from .capabilities import FAMILIES, Capabilities
from .catalogue import HOMES
from .maths.shared_heads import SharedHeads, with_own_heads
from .signatures import recording
from .steps import name_keywords

M = TypeVar("M", bound=Mechanism)

_REGISTRY: dict[str, type[Mechanism]] = {}


def register_attention(
    name: str, *, title: str, source: str, capabilities: Capabilities, family: str = "other"
) -> Callable[[type[M]], type[M]]:
    """Enter a mechanism under a name. A name stands for one class only.

    Args:
        name: what a YAML's ``mechanism:`` says.
        title: what a table's reader sees.
        source: authors, year and where to read it.
        capabilities: the claims that the checks of `testing` test.
        family: one of `capabilities.FAMILIES`, for lists.

    Raises:
        TypeError: `capabilities` are none.
        ValueError: the name is taken, or there is no such family.
    """
    if not isinstance(capabilities, Capabilities):
        raise TypeError(f"{name}: capabilities is {capabilities!r}; Capabilities are needed.")
    if family not in FAMILIES:
        raise ValueError(f"{name}: family is {family!r}; one of {', '.join(FAMILIES)} is needed.")

    def enter(cls: type[M]) -> type[M]:
        taken = _REGISTRY.get(name)
        # The same class may come again when its module is reloaded.
        if taken is not None and _address(taken) != _address(cls):
            raise ValueError(
                f"The attention name {name!r} is taken by {_address(taken)}; "
                f"{_address(cls)} needs another."
            )
        cls.name, cls.title, cls.source, cls.capabilities = name, title, source, capabilities
        cls.family = family
        cls.__init__ = recording(cls.__init__)  # type: ignore[method-assign]
        name_keywords(cls, ("forward", "step") if issubclass(cls, Attention) else ("forward",))
        _REGISTRY[name] = cls
        return cls

    return enter


def _address(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


@functools.cache
def _import_all() -> tuple[_plugins.PluginProblem, ...]:
    """Import every mechanism; returns the plugins that cannot be."""
    package = __name__.rpartition(".")[0]
    for home in HOMES:
        for module in pkgutil.iter_modules(importlib.import_module(f"{package}.{home}").__path__):
            importlib.import_module(f"{package}.{home}.{module.name}")
    # Plugins register with the package of this name, not with a second copy of it.
    return _plugins.load_all() if package == "attentions" else ()


def attention_names() -> tuple[str, ...]:
    """All registered names, sorted.

    >>> "softmax" in attention_names()
    True
    """
    _import_all()
    return tuple(sorted(_REGISTRY))


def attention_class(name: str) -> type[Mechanism]:
    """The class behind a name.

    >>> attention_class("linear").title
    'Linear attention (elu + 1)'

    Raises:
        ValueError: no such name; the message lists the nearest ones.
    """
    if not isinstance(name, str):
        raise ValueError(
            f"An attention mechanism is named by a word, such as 'softmax'; {name!r} was given."
        )
    problems = _import_all()
    if name not in _REGISTRY:
        near = difflib.get_close_matches(name, _REGISTRY, n=3, cutoff=0.5)
        hint = (
            f"did you mean {', '.join(near)}?"
            if near
            else f"known: {', '.join(sorted(_REGISTRY))}."
        )
        lost = "".join(f" {problem}" for problem in problems)
        raise ValueError(f"No attention mechanism is named {name!r}; {hint}{lost}")
    return _REGISTRY[name]


def hyperparameters(name: str) -> dict[str, Any]:
    """Each hyperparameter that the mechanism's constructor takes, with its default.

    >>> hyperparameters("sliding_window")
    {'window': 256}
    """
    return dict(_defaults(attention_class(name)))


@functools.cache
def _defaults(cls: type[Mechanism]) -> dict[str, Any]:
    parameters = list(inspect.signature(cls.__init__).parameters.values())[2:]  # self, geometry
    return {p.name: None if p.default is p.empty else p.default for p in parameters}


def build_attention(name: str, geometry: Geometry, **settings: Any) -> Attention:
    """Build a mechanism by its registered name.

    >>> from attentions import Geometry, build_attention
    >>> core = build_attention("linear", Geometry(num_heads=2, head_dim=16, seq_len=49))
    >>> core.capabilities.causal
    True

    Args:
        name: one of `attention_names`.
        geometry: the shape to build for.
        settings: the mechanism's own hyperparameters.

    Returns:
        A core. The name of a layer gives an `AttentionLayer`, which `build_layer` has in its type.

    Raises:
        ValueError: an unknown name, or a value that the mechanism refuses for this geometry.
        TypeError: a hyperparameter that it does not take.
    """
    cls = attention_class(name)
    allowed = hyperparameters(name)
    for key in settings:
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            takes = ", ".join(allowed) or "none"
            raise TypeError(f"{name} takes no hyperparameter {key!r}.{hint} It takes: {takes}.")
    has_own_heads = geometry.num_kv_heads == geometry.num_heads and not geometry.num_value_heads
    if has_own_heads or (cls.capabilities.grouped_heads and not geometry.num_value_heads):
        core = cls(geometry, **settings)
        if "geometry" not in vars(core):
            raise TypeError(f"{name}: its constructor does not call super().__init__(geometry).")
        return core  # type: ignore[return-value]  # a layer, see Returns
    if not issubclass(cls, Attention):
        raise ValueError(
            f"{name}: num_kv_heads is {geometry.num_kv_heads} and num_value_heads "
            f"{geometry.num_value_heads}; it owns its projections, so num_heads, "
            f"{geometry.num_heads}, and 0 are needed."
        )
    return SharedHeads(cls(with_own_heads(geometry), **settings), geometry)
