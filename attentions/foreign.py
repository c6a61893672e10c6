"""An operator of another package that computes a mechanism of ours: what differs, as data.

Its entry follows from ours and from these words; `catalogue` reads them without running them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any


class Ours(dict[str, Any]):
    """Mechanisms of ours, by name, that operators of others are described by."""

    def __missing__(self, name: str) -> Any:
        """Refuse an operator of a mechanism that was renamed or removed."""
        raise ValueError(
            f"published/ or adapters/ has an operator of {name!r}, and no mechanism is registered "
            "by that name; rename the operator too, or remove it."
        )


@dataclass(frozen=True)
class Operator:
    """An operator of the package flash-linear-attention, as a row of a table.

    Attributes:
        name: of its entry: that of ours, and _fla.
        ours: the mechanism that it computes.
        place: its package and its name, below ``fla.ops``.
        arguments: what it is called with: its argument -> q, k, v, a gate, an attribute of ours or
            a tensor of ``more``. Gates and learned numbers get the dtype of the queries.
        wide: gates and learned numbers that stay float32, as every log decay does.
        more: further tensors by name, from ours and those so far.
        fixed: settings of ours that it knows in one value only.
        takes: size or setting -> the values that it takes, in words.
        packed: whether it takes sequences one behind the other, and where each begins.
        normalises: whether it brings queries and keys to unit length itself, if both are to be.
        flash: whether it leaves its softmax to flash-attn.
        about: what else is to be known of the call.
        hazards: where the result is not what one would expect, besides those of ours.
        differences: from ours.
    """

    name: str
    ours: Any
    place: str
    arguments: Mapping[str, str]
    wide: frozenset[str] = frozenset()
    more: Callable[..., Mapping[str, Any]] | None = None
    fixed: Mapping[str, Any] = field(default_factory=dict)
    takes: Mapping[str, str] = field(default_factory=dict)
    packed: bool = False
    normalises: bool = False
    flash: bool = False
    about: str = ""
    hazards: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()

    def entry(self, formula: str, settings: Iterable[str]) -> dict[str, Any]:
        """Arguments of `register_attention` for its entry, and ``doc``, the docstring.

        Args:
            formula: that of ours.
            settings: the hyperparameters of ours, those that are fixed left out.
        """
        can = replace(
            self.ours.capabilities,
            recurrent=False,
            masks=frozenset(),
            memory_layout="bnhd",
            dtypes=("bfloat16", "float16"),
            devices=("cuda",),
            backward_devices=("cuda",),
            requires=("fla", "flash_attn") if self.flash else ("fla",),
            compiles=False,
            exports=frozenset(),
        )
        return {
            "name": self.name,
            "title": re.sub(r" \(.*\)", "", self.ours.title) + " (flash-linear-attention)",
            "source": f"{self.ours.source}; fla-org/flash-linear-attention",
            "family": self.ours.family,
            "capabilities": can,
            "doc": self._doc(formula, settings),
        }

    def _doc(self, formula: str, settings: Iterable[str]) -> str:
        name = self.ours.name
        hazards = [f"Half precision only; those of `{name}` otherwise.", *self.hazards]
        differences = [
            f"Takes no masks and has no decoding; those of `{name}` otherwise.",
            *(f"``{what}`` is {value!r} and cannot be set." for what, value in self.fixed.items()),
            *(f"Its kernel takes ``{what}``: {values}." for what, values in self.takes.items()),
            *self.differences,
        ]
        lines = [f"`{name}` by the operator ``fla.ops.{self.place}``.", ""]
        lines += [f"    {line}" for line in formula.splitlines()]
        lines += ["", self.about] if self.about else []
        lines += ["", "Hazards:", *(f"    - {line}" for line in hazards)]
        lines += ["", "Differences:", *(f"    - {line}" for line in differences)]
        known = [f"    {setting}: as for `{name}`." for setting in settings]
        return "\n".join([*lines, *(["", "Args:", *known] if known else [])])
