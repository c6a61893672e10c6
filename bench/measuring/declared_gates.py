"""Gates that a core declares, in today's library or in older ones that only named them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attentions import Gate

_DECAY = Gate("bhn", high=0)
_OLDER: dict[str, Gate] = {"beta": Gate("bhn", low=0, high=1), "log_decay": _DECAY}
_BY_CHANNEL = ("gla", "gla_fla")
"""Mechanisms of the older libraries with a decay per key channel."""


def declared(core: Any) -> Mapping[str, Gate]:
    """The gates of a core, in the order in which it declares them.

    Raises:
        ValueError: it only names a gate, as older libraries do, and the name is unknown.
    """
    said = getattr(core, "gates", None)
    if said is None:
        said = core.capabilities.gates
    if isinstance(said, Mapping):
        # Another copy of the library has another class `Gate`.
        return {name: Gate(g.shape, g.low, g.high, g.unit, g.query) for name, g in said.items()}
    unknown = [name for name in said if name not in _OLDER]
    if unknown:
        raise ValueError(
            f"{core.name} names the gate {unknown[0]} and says nothing else of it; a mapping of "
            "names to attentions.Gate is needed in its capabilities."
        )
    by_channel = {"log_decay": Gate("bhnd", high=0)} if core.name in _BY_CHANNEL else {}
    return {name: by_channel.get(name, _OLDER[name]) for name in said}
