"""Registries: things of one kind by name, entered by the modules of a package and by plugins."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any, Generic, TypeVar

from bench.core.cli.errors import ConfigError, did_you_mean

T = TypeVar("T")


class UnknownName(ConfigError, ValueError):
    """Nothing is registered under a name; the message lists the nearest ones."""


class Registry(Generic[T]):
    """Things of one kind by name.

    Args:
        noun: what a thing is called in messages.
        package: its modules are imported before a name is looked up.
        import_others: called before a name is looked up, too.

    Attributes:
        entered: things by name, so far.
    """

    def __init__(
        self, noun: str, package: str, import_others: Callable[[], object] = lambda: None
    ) -> None:
        self._noun, self._package, self._import_others = noun, package, import_others
        self.entered: dict[str, T] = {}
        self._origins: dict[str, Any] = {}

    def enter(self, name: str, thing: T, origin: Any) -> None:
        """Enter a thing, once more if its module is reloaded.

        Args:
            name: stands for one thing only.
            thing: returned by `find`.
            origin: function or class that it is made of.

        Raises:
            ValueError: the name is taken by another module.
        """
        if not origin.__module__.startswith(self._package):
            import_all(self._package)  # a plugin may not take one of our names
        taken = self._origins.get(name, origin)
        if name in self.entered and taken.__module__ != origin.__module__:
            old, new = (f"{one.__module__}.{one.__qualname__}" for one in (taken, origin))
            raise ValueError(
                f"The {self._noun} name {name!r} is taken by {old}; {new} needs another."
            )
        self.entered[name], self._origins[name] = thing, origin

    def names(self) -> tuple[str, ...]:
        """All registered names, sorted."""
        import_all(self._package)
        self._import_others()
        return tuple(sorted(self.entered))

    def find(self, name: str) -> T:
        """The thing behind a name.

        Raises:
            UnknownName: nothing is registered under it.
        """
        if name not in self.entered and name not in (known := self.names()):
            raise UnknownName(f"No {self._noun} is named {name!r}. {did_you_mean(name, known)}")
        return self.entered[name]


@cache
def import_all(package: str) -> tuple[ModuleType, ...]:
    """Import all modules of a package, which register what they have; returns them by name."""
    found = pkgutil.iter_modules(importlib.import_module(package).__path__)
    return tuple(importlib.import_module(f"{package}.{module.name}") for module in found)
