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

from bench.core.record import Record
from bench.core.registry import Registry
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


_METRICS: Registry[Metric] = Registry("metric", "bench.publishing.metrics")
metric_names, find_metric = _METRICS.names, _METRICS.find


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
        meaning = (inspect.getdoc(function) or "").partition("\n")[0]
        if not meaning and sys.flags.optimize > 1:  # python -OO has none of any function
            meaning = name
        if not meaning:
            raise ValueError(f"Metric {name} needs a docstring: its first line says what it is.")
        metric = Metric(name=name, better=better, meaning=meaning, of=function)
        _METRICS.enter(name, metric, function)
        return function

    return enter


def evaluate(record: Record, names: Iterable[str]) -> dict[str, Value]:
    """The named metrics of a record, in the order given; all None unless its status is ok."""
    return {name: find_metric(name).of(record) for name in names}
