"""The shapes of a sweep: the product of its axes, without contradictory ones."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

from bench.core.cell import KernelWorkload
from bench.core.cli.errors import ConfigError
from bench.measuring.config import Axes

_SHAPE_AXES = (
    "padding",
    "ragged",
    "compile",
    "cache",
    "scope",
    "causal",
    "mode",
    "dtype",
    "batch_size",
    "num_heads",
    "num_kv_heads",
    "head_dim",
    "key_len",
    "seq_len",
)
"""Fields of `KernelWorkload`, the one that changes fastest last."""


def planned_shapes(axes: Axes) -> list[KernelWorkload]:
    """The product of the axes, without shapes that contradict themselves.

    Raises:
        ConfigError: all of them do.
    """
    found = _product(axes)
    planned = [w for w in found if w.contradiction is None]
    if found and not planned:
        raise ConfigError(" ".join(left_out(axes)) + " Change one of them.")
    return planned


def left_out(axes: Axes) -> dict[str, int]:
    """Contradictions within the product, each with the number of shapes left out for it."""
    return dict(Counter(w.contradiction for w in _product(axes) if w.contradiction))


def _product(axes: Axes) -> list[KernelWorkload]:
    """The product of the axes, each shape once."""
    scopes = [scope for scope in axes.scope if scope != "model"]
    values = (scopes if name == "scope" else getattr(axes, name) for name in _SHAPE_AXES)
    found = []
    for shape in itertools.product(*values):
        settings: dict[str, Any] = dict(zip(_SHAPE_AXES, shape, strict=True))
        if settings["key_len"] == settings["seq_len"]:
            settings["key_len"] = None  # the same cell as without it
        found.append(KernelWorkload(**settings))
    return list(dict.fromkeys(found))
