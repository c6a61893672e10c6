"""Which form of a mechanism runs: the hyperparameter ``implementation``.

``auto``: the engine's, where it applies, else the plain one. ``plain``: the formula over whole
tensors. ``official``: the operators of the authors' own code, to be measured beside ours.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from ._engine import applies
from .base import Mechanism
from .checks import one_of

FORMS = ("auto", "plain", "official")


def known_form(mechanism: str, implementation: str) -> str:
    """The value, or a ValueError that says what is allowed."""
    return str(one_of(mechanism, "implementation", implementation, FORMS))


def by_tiles(implementation: str, key_mask: Tensor | None, *tensors: Tensor) -> bool:
    """Whether the engine's form runs: q, k, v and weights."""
    return implementation == "auto" and key_mask is None and applies(*tensors)


def refuse_mask(mechanism: str, key_mask: Tensor | None) -> None:
    """The authors' operators take none."""
    if key_mask is not None:
        raise ValueError(
            f"{mechanism}: a key_mask was given; with implementation='official' None is needed, as "
            "the authors' code takes no mask."
        )


def official_layout(mechanism: Mechanism, memory_layout: str) -> None:
    """Ask for the strides that the authors' operators are written for: no copy is charged."""
    mechanism.capabilities = replace(mechanism.capabilities, memory_layout=memory_layout)  # type: ignore[misc]
