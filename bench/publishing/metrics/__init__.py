"""Named numbers of a record: what is concluded from what was observed. Needs numpy, no torch.

>>> from bench.publishing.metrics import find_metric
>>> find_metric("latency_s").better
'lower'
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from bench.core.format import interval_names
from bench.core.record import Record
from bench.core.registry import Registry
from bench.core.statistics import Interval, Value

MetricFunction = Callable[[Record], Value]
_F = TypeVar("_F", bound=MetricFunction)
IntervalFunction = Callable[[Record], Interval | None]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A named number that follows from one record.

    Attributes:
        name: ends with its SI base unit, which `bench.core.format` parses.
        better: ``"higher"``, ``"lower"``, or None if neither is better.
        meaning: the first line of the function's docstring.
        of: the pure function; it returns None where the metric does not apply.
        interval: the 95 % interval of the number; None if it never has one.
    """

    name: str
    better: str | None
    meaning: str
    of: MetricFunction
    interval: IntervalFunction | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Its name, with those of the ends of its interval beside it."""
        return (self.name, *(interval_names(self.name) if self.interval else ()))


_METRICS: Registry[Metric] = Registry("metric", "bench.publishing.metrics")
metric_names, find_metric = _METRICS.names, _METRICS.find


def register_metric(
    name: str, *, better: str | None = None, interval: IntervalFunction | None = None
) -> Callable[[_F], _F]:
    """Register a function of a record as a metric. A name stands for one function only.

    Raises:
        ValueError: the name is taken, `better` is another word, or there is no docstring.
    """
    if better not in ("higher", "lower", None):
        raise ValueError(f"Metric {name}: better is {better!r}; it is 'higher', 'lower' or None.")

    def enter(function: _F) -> _F:
        meaning = (inspect.getdoc(function) or "").partition("\n")[0]
        if not meaning and sys.flags.optimize > 1:  # python -OO has none of any function
            meaning = name
        if not meaning:
            raise ValueError(f"Metric {name} needs a docstring: its first line says what it is.")
        metric = Metric(name=name, better=better, meaning=meaning, of=function, interval=interval)
        _METRICS.enter(name, metric, function)
        return function

    return enter


def evaluate(record: Record, names: Iterable[str]) -> dict[str, Value]:
    """The named metrics of a record with their intervals; all None unless its status is ok.

    By the names of `columns_of`, in this order.
    """
    found: dict[str, Value] = {}
    for metric in map(find_metric, names):
        low, high = (metric.interval and metric.interval(record)) or (None, None)
        found |= zip(metric.columns, (metric.of(record), low, high), strict=False)
    return found


def columns_of(names: Iterable[str]) -> list[str]:
    """Names of the columns of metrics, the ends of an interval beside its number."""
    return [column for name in names for column in find_metric(name).columns]
