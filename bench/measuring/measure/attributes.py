"""Detect functions of torch and of mechanisms that code replaces for all others in the process.

Watched are attributes of torch's modules, of `torch.Tensor`, of the library's loaded modules, and
of the classes of mechanisms, compared by identity. An added name is torch's own lazy loading,
unless it hides an inherited attribute.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from types import ModuleType
from typing import Any

import torch

from attentions.base import Mechanism

_MODULES = (torch, torch.nn.functional, torch.linalg)
_OF_TORCH = {
    torch: ("manual_seed",),
    torch.nn.Module: ("__init__", "__setstate__"),
}
"""Names that torch's compiler itself replaces when it is loaded, or first used."""
_GONE = object()
_MAX_NAMED = 3


@dataclass(frozen=True)
class _Owner:
    """A module or class, and the names of its attributes that are watched."""

    thing: Any
    held: Mapping[str, Any]
    names: tuple[str, ...]
    known: frozenset[str]
    take: Callable[[Any], tuple[Any, ...]]

    @property
    def words(self) -> str:
        """Its qualified name."""
        thing = self.thing
        is_module = isinstance(thing, ModuleType)
        return thing.__name__ if is_module else f"{thing.__module__}.{thing.__qualname__}"

    def hiding(self) -> tuple[str, ...]:
        """Names that were added to a class and hide an inherited attribute."""
        if len(self.held) == len(self.known) or isinstance(self.thing, ModuleType):
            return ()
        bases = [vars(base) for base in self.thing.__mro__[1:-1]]
        added = (name for name in self.held if name not in self.known)
        return tuple(name for name in added if any(name in base for base in bases))


_owners: list[_Owner] = []


def watch_loaded() -> None:
    """Watch torch's modules, and all of the library and its mechanisms that are loaded by now."""
    known = {owner.thing for owner in _owners}
    ours = [module for name, module in sys.modules.items() if name.startswith("attentions.")]
    for thing in (*_MODULES, *ours, torch.Tensor, *_classes()):
        if thing not in known:
            known.add(thing)
            _owners.append(_owner(thing))


def _classes() -> Iterator[type]:
    waiting: list[type] = [torch.nn.Module, Mechanism]
    for cls in waiting:
        yield cls
        if cls is not torch.nn.Module:
            waiting += cls.__subclasses__()


def _owner(thing: Any) -> _Owner:
    held = vars(thing)
    names = tuple(
        name
        for name, value in held.items()
        if (callable(value) or hasattr(type(value), "__get__"))
        and name not in _OF_TORCH.get(thing, ())
    )
    # An itemgetter of a single name would not return a tuple.
    names = (*names, "__doc__", "__doc__")[: max(2, len(names))]
    known = frozenset(held)
    return _Owner(thing=thing, held=held, names=names, known=known, take=itemgetter(*names))


Snapshot = tuple[tuple[tuple[Any, ...], tuple[str, ...]], ...]
"""For each owner the values of its attributes, and the names that hide inherited ones."""


def snapshot() -> Snapshot:
    """Snapshot of the attributes, in some tens of microseconds: one is taken after every turn."""
    if not _owners:
        watch_loaded()
    try:
        return tuple((owner.take(owner.held), owner.hiding()) for owner in _owners)
    except KeyError:  # one was deleted
        return tuple(
            (tuple(owner.held.get(name, _GONE) for name in owner.names), owner.hiding())
            for owner in _owners
        )


def replaced(before: Snapshot, now: Snapshot) -> tuple[str, ...]:
    """Names of the attributes that differ between two snapshots; classes loaded later have none."""
    return tuple(f"{owner.words}.{name}" for owner, name, _ in _differences(before, now))


def words(before: Snapshot, now: Snapshot) -> str:
    """The first few names of `replaced`, for a message."""
    names = replaced(before, now)
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more


def restore(before: Snapshot) -> None:
    """Restore the attributes of a snapshot."""
    for owner, name, value in list(_differences(before, snapshot())):
        if value is _GONE:
            delattr(owner.thing, name)
        else:
            setattr(owner.thing, name, value)


def _differences(before: Snapshot, now: Snapshot) -> Iterator[tuple[_Owner, str, Any]]:
    """Owner, name and former value of each difference; `_GONE` for a name that was added."""
    for owner, was, new in zip(_owners, before, now, strict=False):
        for name, value, other in zip(owner.names, was[0], new[0], strict=True):
            if value is not other:
                yield owner, name, value
        for name in new[1]:
            if name not in was[1]:
                yield owner, name, _GONE
