"""Numbers for readers: prefixes and units, by a metric's name. Values stay in base units.

The only place, with the charts' axes, where milliseconds, MiB and GFLOP exist.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.core.statistics import Interval, Ratio, Value, median

_TIME = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_BYTES = ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "bytes"))


def _decimal(unit: str) -> tuple[tuple[float, str], ...]:
    prefixes = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
    return tuple((factor, f"{prefix} {unit}".strip()) for factor, prefix in prefixes)


def _joined(unit: str) -> tuple[tuple[float, str], ...]:
    return tuple((factor, text.replace(" ", "")) for factor, text in _decimal(unit))


# The end of a metric's name, its scales from large to small, and a title if nothing else is left.
_ENDINGS = (
    ("_tokens_per_s", _decimal("tokens/s"), ""),
    ("_images_per_s", _decimal("images/s"), ""),
    ("flops_per_s", _joined("FLOP/s"), "compute rate"),
    ("bytes_per_s", _joined("B/s"), ""),
    ("flops", _joined("FLOP"), "compute"),
    ("_bytes", _BYTES, ""),
    ("_elements", _decimal(""), ""),
    ("_s", _TIME, ""),
    ("_j", ((1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ")), ""),
    ("_w", ((1.0, "W"),), ""),
)
_PERCENT = frozenset({"accuracy", "chance", "roofline_fraction"})
_LEAST = 0.001
"""Smallest number written in a large unit; a smaller one would read as 3.81e-06 MiB."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """How one metric is written in one table: all its cells in one unit.

    Attributes:
        title: with the unit.
        factor: base units in one unit of the column.
        suffix: appended to each number.
        unit: as in the title; empty where it is in the suffix, or there is none.
    """

    title: str
    unit: str = ""
    factor: float = 1.0
    suffix: str = ""

    def write(self, value: Value) -> str:
        """Three significant digits; empty for None; ``<0.001`` where the column's unit is large."""
        if value is None:
            return ""
        if self.factor > 1 and 0 < value / self.factor < _LEAST:
            return f"<{_LEAST:g}"
        return number(value / self.factor) + self.suffix


Scales = tuple[tuple[float, str], ...]
"""Base units in one unit and the unit's name, from large to small."""


def title_and_scales(name: str) -> tuple[str, Scales]:
    """A metric's title without a unit, and the units that it may be shown in.

    >>> title_and_scales("accuracy")
    ('accuracy', ((0.01, '%'),))
    """
    title = name.removeprefix("num_").replace("_", " ")
    if name.startswith("speedup"):
        return title.replace("speedup", "speed-up"), ((1.0, "x"),)
    if name in _PERCENT:
        return title, ((0.01, "%"),)
    for ending, scales, bare in _ENDINGS:
        if name.endswith(ending):
            rest = name.removesuffix(ending).replace("_", " ").strip()
            return f"{rest} {bare}".strip(), scales
    return title, ((1.0, ""),)


def column_for(name: str, values: Iterable[Value]) -> Column:
    """The column of a metric, in the unit in which its median value is easy to read."""
    title, scales = title_and_scales(name)
    if name.startswith("speedup"):
        return Column(title=title, suffix="x")
    middle = median([abs(v) for v in values if v]) or 0.0
    factor, unit = next((s for s in scales if middle >= s[0]), scales[-1])
    return Column(title=f"{title} ({unit})" if unit else title, unit=unit, factor=factor)


def with_unit(name: str, value: Value) -> str:
    """One value of a metric in the unit in which it is easy to read; empty for None.

    >>> with_unit("flops", 8_800_000_000_000), with_unit("state_bytes", 4096)
    ('8.80 TFLOP', '4.00 KiB')
    """
    column = column_for(name, [value])
    return f"{column.write(value)} {column.unit}" if value is not None else ""


def number(value: float) -> str:
    """Three significant digits, or all digits before the point, with thousands separators."""
    if value != value:
        return "nan"
    if abs(value) >= 999.5 or value == 0 or (isinstance(value, int) and abs(value) < 1000):
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".")


def with_interval(column: Column, value: Value, low: Value, high: Value) -> str:
    """As ``1.83x [1.79, 1.88]``, or the value alone if its interval is missing or a point."""
    text = column.write(value)
    if value is None or low is None or high is None or low == high:
        return text
    return f"{text} [{number(low / column.factor)}, {number(high / column.factor)}]"


def ratio_words(ratio: Ratio | None) -> str:
    """A speed-up, as ``2.10x [2.05, 2.15]``; empty for None."""
    if ratio is None:
        return ""
    return with_interval(column_for("speedup", ()), ratio.median, ratio.low, ratio.high)


def bracketed(write: Callable[[float], str], value: float, interval: Interval | None) -> str:
    """As ``97.3 [96.1, 98.5]``, or the value alone without an interval."""
    ends = "" if interval is None else f" [{write(interval[0])}, {write(interval[1])}]"
    return write(value) + ends


def plain(value: Any) -> Any:
    """Lists and dicts as JSON, anything else as it is."""
    return json.dumps(value, sort_keys=True) if isinstance(value, (dict, list)) else value


def interval_names(name: str) -> tuple[str, str]:
    """Names of the columns that hold the ends of a metric's interval, where it has one.

    >>> interval_names("latency_s")
    ('latency_low_s', 'latency_high_s')
    """
    stem, unit = (name[:-2], "_s") if name.endswith("_s") else (name, "")
    return f"{stem}_low{unit}", f"{stem}_high{unit}"


def percent(fraction: float) -> str:
    """As ``97.3``, without the percent sign."""
    return f"{100 * fraction:.1f}"


def quantity(count: int, noun: str) -> str:
    """As ``1 thread``, ``2 threads`` or ``2 launches``."""
    return f"{count:,} {plural(noun, count)}"


def plural(noun: str, count: int) -> str:
    """The noun for so many things."""
    return noun if count == 1 else f"{noun}{'es' if noun.endswith('ch') else 's'}"


def join_names(names: Sequence[str], last: str = "and") -> str:
    """Join names: ``a``, ``a and b``, or ``a, b and c``; `last` stands between the last two."""
    return ", ".join(names[:-1]) + f" {last} {names[-1]}" if len(names) > 1 else names[0]


def format_duration(seconds: float) -> str:
    """As ``8 s``, ``3 min 20 s`` or ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
