"""Operators of other packages that compute a mechanism of ours: what differs, as data.

Their entries follow from ours and from these words; `catalogue` reads them without running them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

SUFFIXES = ("_fla", "_ort")
"""Ends of names of operators; the mechanism that they compute stands before."""


def mechanism_behind(name: str) -> str:
    """The mechanism of ours that an operator computes, by name; any other name as it is.

    >>> mechanism_behind("kda_ort"), mechanism_behind("kda")
    ('kda', 'kda')
    """
    return name[:-4] if name.endswith(SUFFIXES) else name


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
    arguments: Mapping[str, str] = field(default_factory=dict)
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
        about = "flash-linear-attention", "fla-org/flash-linear-attention"
        can = {
            "recurrent": False,
            "masks": frozenset(),
            "memory_layout": "bnhd",
            "dtypes": ("bfloat16", "float16"),
            "devices": ("cuda",),
            "backward_devices": ("cuda",),
            "requires": ("fla", "flash_attn") if self.flash else ("fla",),
        }
        return _entry(self, about, can, self._doc(formula, settings))

    def _doc(self, formula: str, settings: Iterable[str]) -> str:
        name = self.ours.name
        hazards = [f"Half precision only; those of `{name}` otherwise.", *self.hazards]
        differences = [
            f"Takes no masks and has no decoding; those of `{name}` otherwise.",
            *(f"``{what}`` is {value!r} and cannot be set." for what, value in self.fixed.items()),
            *(f"Its kernel takes ``{what}``: {values}." for what, values in self.takes.items()),
            *self.differences,
        ]
        by = f"operator ``fla.ops.{self.place}``"
        return _doc(name, by, formula, self.about, hazards, differences, settings)


@dataclass(frozen=True)
class OrtOperator:
    """ONNX Runtime's operator ``LinearAttention`` for CPUs, as a row of a table.

    Attributes:
        name: of its entry: that of ours, and _ort.
        ours: the mechanism that it computes.
        rule: the operator's name of the recurrence.
    """

    fixed: ClassVar[Mapping[str, Any]] = {}

    name: str
    ours: Any
    rule: str

    def entry(self, formula: str, settings: Iterable[str]) -> dict[str, Any]:
        """Arguments of `register_attention` for its entry, and ``doc``, as for `Operator`."""
        can = {
            "dtypes": ("float32", "bfloat16", "float16"),
            "devices": ("cpu",),
            "backward_devices": (),
            "requires": ("onnxruntime", "onnx"),
        }
        name = self.ours.name
        doc = _doc(
            name,
            f"operator ``com.microsoft.LinearAttention`` with the rule {self.rule}",
            formula,
            "Keys, queries and gates are prepared as for ours, and so are masks and states.",
            [f"Gives no gradients; those of `{name}` otherwise."],
            [f"Computes in float32 only; those of `{name}` otherwise."],
            settings,
        )
        return _entry(self, ("ONNX Runtime", "microsoft/onnxruntime"), can, doc)


def _entry(
    row: Operator | OrtOperator, package: tuple[str, str], can: Mapping[str, Any], doc: str
) -> dict[str, Any]:
    """An entry from ours, a package's name and repository, and the capabilities that differ."""
    ours, (title, home) = row.ours, package
    return {
        "name": row.name,
        "title": re.sub(r" \(.*\)", "", ours.title) + f" ({title})",
        "source": f"{ours.source}; {home}",
        "family": ours.family,
        "capabilities": replace(ours.capabilities, compiles=False, exports=frozenset(), **can),
        "doc": doc,
    }


def _doc(
    name: str,
    by: str,
    formula: str,
    about: str,
    hazards: Iterable[str],
    differences: Iterable[str],
    settings: Iterable[str],
) -> str:
    lines = [f"`{name}` by the {by}.", ""]
    lines += [f"    {line}" for line in formula.splitlines()]
    lines += ["", about] if about else []
    lines += ["", "Hazards:", *(f"    - {line}" for line in hazards)]
    lines += ["", "Differences:", *(f"    - {line}" for line in differences)]
    known = [f"    {setting}: as for `{name}`." for setting in settings]
    return "\n".join([*lines, *(["", "Args:", *known] if known else [])])
