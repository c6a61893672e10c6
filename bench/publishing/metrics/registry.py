"""Registry of metrics, filled by importing every module of this package."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

from bench.core.cli.errors import ConfigError, did_you_mean
from bench.core.record import Record
from bench.core.statistics import Value

MetricFunction = Callable[[Record], Value]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A named number that follows from one record.

    Attributes:
        name: ends with its SI base unit, which `bench.core.format` parses.
        better: ``"higher"``, ``"lower"``, or None if neither is better.
        meaning: the first line of the function's docstring.
        of: the pure function; it returns None where the metric does not apply.
    """

    name: str
    better: str | None
    meaning: str
    of: MetricFunction


_REGISTRY: dict[str, Metric] = {}
_PACKAGE = __name__.rpartition(".")[0]


def register_metric(
    name: str, *, better: str | None = None
) -> Callable[[MetricFunction], MetricFunction]:
    """Register a function of a record as a metric. A name stands for one function only.

    Raises:
        ValueError: the name is taken, `better` is another word, or there is no docstring.
    """
    if better not in ("higher", "lower", None):
        raise ValueError(f"Metric {name}: better is {better!r}; it is 'higher', 'lower' or None.")

    def enter(function: MetricFunction) -> MetricFunction:
        if not function.__module__.startswith(_PACKAGE):
            _import_all()  # a plugin may not take a built-in name, even if it registers first
        taken = _REGISTRY.get(name)
        if taken is not None and taken.of.__module__ != function.__module__:
            raise ValueError(
                f"The metric name {name!r} is taken by {taken.of.__module__}; "
                f"{function.__module__} needs another."
            )
        meaning = (inspect.getdoc(function) or "").partition("\n")[0]
        if not meaning and sys.flags.optimize > 1:  # python -OO has none of any function
            meaning = name
        if not meaning:
            raise ValueError(f"Metric {name} needs a docstring: its first line says what it is.")
        _REGISTRY[name] = Metric(name=name, better=better, meaning=meaning, of=function)
        return function

    return enter


@cache
def _import_all() -> None:
    for module in pkgutil.iter_modules(importlib.import_module(_PACKAGE).__path__):
        importlib.import_module(f"{_PACKAGE}.{module.name}")


def metric_names() -> tuple[str, ...]:
    """All registered names, sorted."""
    _import_all()
    return tuple(sorted(_REGISTRY))


def find_metric(name: str) -> Metric:
    """Find a metric by its name.

    Raises:
        ConfigError: no such name; the message lists the nearest ones.
    """
    _import_all()
    if name not in _REGISTRY:
        raise ConfigError(f"No metric is named {name!r}. {did_you_mean(name, _REGISTRY)}")
    return _REGISTRY[name]


def evaluate(record: Record, names: Iterable[str]) -> dict[str, Value]:
    """The named metrics of a record, in the order given; all None unless its status is ok."""
    return {name: find_metric(name).of(record) for name in names}
