"""Entries of other packages' operators, made of their rows and of the mechanisms behind them."""

from __future__ import annotations

import inspect
from typing import Any

from ..base import Mechanism
from ..catalogue import describe
from ..foreign import Operator, OrtOperator
from ..registry import register_attention
from ..signatures import constructor


def enter(row: Operator | OrtOperator, base: Any, module: str) -> type[Mechanism]:
    """Register the entry of an operator; ``base`` calls it, and its class belongs to ``module``."""
    ours = row.ours
    taken = [*inspect.signature(ours.__init__).parameters.values()][2:]  # self, geometry
    settings = {p.name: p.default for p in taken if p.name not in row.fixed}
    said = row.entry(describe(inspect.getdoc(ours) or "").formula, settings)
    name = ours.__name__ + base.__name__.removeprefix("By")
    made = {"operator": row, "settings": settings, "__doc__": said.pop("doc")}
    # As its module has it, for pickle and for the hash of its source.
    made |= {"__module__": module, "__qualname__": name, "__init__": constructor(base, settings)}
    return register_attention(**said)(type(name, (base, ours), made))
