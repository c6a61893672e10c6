"""Entries of the family ``published``: the authors' operators, a function of one of our mechanisms.

Ours lends the learned values, the slow form and the count of FLOPs, so that nothing but `forward`
differs. The function is what the authors' code does, operator by operator, with its copies and
layouts and with the places where it is not finite. It is never made faster or safer: it is what
ours is compared with. The operators are run and proven in float32 and float64.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, get_type_hints

from torch import Tensor

from ..base import Attention, AttentionLayer, CallShape, Geometry, Mechanism
from ..capabilities import PUBLISHED, published_capabilities
from ..registry import register_attention
from ..signatures import constructor

Operators = Callable[..., Tensor]
Check = Callable[[Any], None]


def published(
    name: str,
    *,
    title: str,
    source: str,
    lacks: tuple[str, ...] = (),
    defaults: Mapping[str, Any] | None = None,
    memory_layout: str | None = None,
    check: Check | None = None,
    methods: Mapping[str, Callable[..., Any]] | None = None,
) -> Callable[[Operators], type[Mechanism]]:
    """Enter the authors' operators of a mechanism, as NAME_published.

    The function takes ours, annotated with its class, and what `forward` takes; of the settings,
    which are those of ours, it takes by keyword those that it names.

    Args:
        name: registered name of ours.
        title: shown in tables.
        source: repository, file and commit.
        lacks: settings of ours that the authors' code does not have; ours keeps its default.
        defaults: settings whose default is another than ours.
        memory_layout: the one that their operators like best, if it is another.
        check: refuses settings or shapes when an entry is built.
        methods: further methods, functions of ours and of what the method takes.
    """

    def enter(operators: Operators) -> type[Mechanism]:
        ours: type[Mechanism] = get_type_hints(operators)["ours"]
        taken = [*inspect.signature(ours.__init__).parameters.values()][2:]  # self, geometry
        settings = {p.name: p.default for p in taken if p.name not in lacks} | dict(defaults or {})
        base = _Layer if issubclass(ours, AttentionLayer) else _Core
        made = {"of": ours, "settings": settings, "operators": staticmethod(operators)}
        made |= {
            "used": [key for key in inspect.signature(operators).parameters if key in settings]
        }
        made |= {"check": staticmethod(check)} if check else {}
        made |= {key: _method(function) for key, function in (methods or {}).items()}
        cls = type(f"{ours.__name__}Published", (base,), {**made, "__doc__": operators.__doc__})
        # As its module has it, for pickle and for the hash of its source.
        cls.__module__, cls.__qualname__ = operators.__module__, operators.__name__
        cls.__init__ = constructor(_Published, settings)  # type: ignore[misc]
        can = published_capabilities(ours.capabilities, memory_layout)
        return register_attention(
            f"{name}_published", title=title, source=source, family=PUBLISHED, capabilities=can
        )(cls)

    return enter


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def method(self: Any, *inputs: Any) -> Any:
        return function(self.ours, *inputs)

    return method


class _Published:
    """The members that both kinds share."""

    of: ClassVar[type[Mechanism]]
    settings: ClassVar[Mapping[str, Any]]
    operators: ClassVar[Operators]
    used: ClassVar[list[str]]
    ours: Any
    chosen: dict[str, Any]

    def __init__(self, geometry: Geometry, **given: Any) -> None:
        super().__init__(geometry)  # type: ignore[call-arg]  # it is a Mechanism as well
        chosen = {**self.settings, **given}
        self.ours = self.of(geometry, **chosen)
        self.chosen = {key: chosen[key] for key in self.used}
        self.check(self.ours)

    @staticmethod
    def check(ours: Any) -> None:
        """Refuse nothing beyond what ours refuses."""

    def flops(self, shape: CallShape) -> int:
        """FLOPs of ours: the mathematics is the same."""
        count: int = self.ours.flops(shape)
        return count


class _Core(_Published, Attention):
    """A core with the authors' operators."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        return self.operators(self.ours, q, k, v, **self.chosen)

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor | None:
        """The slow form of ours."""
        slow: Tensor | None = self.ours.reference(q, k, v)
        return slow


class _Layer(_Published, AttentionLayer):
    """A layer with the authors' operators."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        return self.operators(self.ours, x, **self.chosen)

    def reference(self, x: Tensor) -> Tensor | None:
        """The slow form of ours."""
        slow: Tensor | None = self.ours.reference(x)
        return slow
