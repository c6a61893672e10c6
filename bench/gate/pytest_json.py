"""pytest-benchmark's JSON, as one side of a comparison, and as what a comparison of commits writes.

Such a file holds seconds of one process. Nothing in it says how far two processes differ that run
the same code, so a time read from it has no interval, and the threshold stands in for one.
"""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.app.errors import ConfigError
from bench.gate.exact import HIGHER_IS_WORSE
from bench.gate.rows import LATENCY, Row
from bench.gate.stored import Circumstances, Side, Stored
from bench.gate.verdict import Interval
from bench.machine.environment import Environment
from bench.record import REFERENCE

FORM_VERSION = "5.0.0"
"""Of pytest-benchmark, whose form is written."""

SECONDS = "medians in seconds, as of pytest-benchmark"
SECONDS_NOTE = (
    "These are seconds of two processes, which differ between runs of the same code as well. "
    "base=REF times both sides in one."
)


def side_of_pytest_json(text: str, file: Path) -> Side:
    """The benchmarks of a file, by their full names.

    Raises:
        ConfigError: it is not of pytest-benchmark, or holds no benchmark.
    """
    try:
        content = json.loads(text)
        machine = content.get("machine_info") or {}
        commit = (content.get("commit_info") or {}).get("id")
        cells = tuple(_stored(benchmark, machine) for benchmark in content["benchmarks"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{file} is neither pytest-benchmark's JSON, as pytest --benchmark-json=FILE writes it "
            f"({type(error).__name__}: {error}), nor a *.jsonl file of records or baselines."
        ) from error
    if not cells:
        raise ConfigError(f"{file} holds no benchmark; none ran when it was written.")
    of = f", commit {commit[:12]}" if isinstance(commit, str) else ""
    return Side(
        words=f"{file}{of}",
        commit=commit if isinstance(commit, str) else None,
        unit=SECONDS,
        cells=cells,
    )


def _stored(benchmark: Mapping[str, Any], machine: Mapping[str, Any]) -> Stored:
    name = str(benchmark["fullname"])
    extra: Mapping[str, Any] = benchmark.get("extra_info") or {}
    seconds = float(benchmark["stats"]["median"])
    if not 0 < seconds < float("inf"):
        raise ValueError(f"the median of {name} is {seconds!r}, which is not a time")
    processor = (machine.get("cpu") or {}).get("brand_raw") or machine.get("processor") or None
    exact = {c: extra[c] for c in HIGHER_IS_WORSE if isinstance(extra.get(c), (int, float))}
    return Stored(
        entry=str(extra.get("entry", benchmark.get("name", name))),
        mechanism=str(extra.get("mechanism", "")),
        key=name,
        words=str(extra.get("cell", name)),
        work=name,
        circumstances=Circumstances(
            method_version=extra.get("method_version"),
            processor=processor,
            device=extra.get("device"),
            allocator=extra.get("allocator"),
            num_threads=extra.get("num_threads"),
        ),
        time=Interval(median=seconds, low=seconds, high=seconds),
        over_softmax=_over_softmax(extra),
        latency_s=seconds,
        exact=exact,
    )


def _over_softmax(extra: Mapping[str, Any]) -> Interval | None:
    """As tests/perf leaves it, the other way up; the yardstick's own says nothing."""
    names = ("speedup_over_softmax", "speedup_over_softmax_high", "speedup_over_softmax_low")
    values = [extra.get(name) for name in names]
    if extra.get("mechanism") == REFERENCE or not all(isinstance(v, float) and v for v in values):
        return None
    median, low, high = (1 / v for v in values if v)
    return Interval(median=median, low=low, high=high)


def pytest_json(rows: Sequence[Row], here: Environment, date: str) -> dict[str, Any]:
    """Both sides of every timed cell as two benchmarks of a group, in pytest-benchmark's form.

    ``pytest-benchmark compare`` reads it. A sample is of one process that timed both sides; the
    base's is what the current side's took, divided by the median ratio in that process.

    Args:
        rows: of a comparison of two commits.
        here: machine and commit of the current side.
        date: UTC, ISO 8601.
    """
    timed = [row for row in rows if row.channel == LATENCY and row.samples_s]
    return {
        "machine_info": _machine_info(here),
        "commit_info": {
            "id": here.commit or "unversioned",
            "time": None,
            "author_time": None,
            "dirty": bool(here.is_dirty),
            "project": "attnbench",
            "branch": "(unknown)",
        },
        "benchmarks": [
            _benchmark(row, side, [pair[index] for pair in row.samples_s], rows)
            for row in timed
            for index, side in enumerate(("base", "current"))
        ],
        "datetime": date,
        "version": FORM_VERSION,
    }


def _machine_info(here: Environment) -> dict[str, Any]:
    """The machine in pytest-benchmark's words; names no host."""
    return {
        "node": "",
        "processor": platform.processor(),
        "machine": platform.machine(),
        "python_compiler": platform.python_compiler(),
        "python_implementation": platform.python_implementation(),
        "python_implementation_version": platform.python_version(),
        "python_version": platform.python_version(),
        "python_build": list(platform.python_build()),
        "release": platform.release(),
        "system": platform.system(),
        "cpu": {"brand_raw": here.processor},
    }


def _benchmark(
    row: Row, side: str, samples: Sequence[float], rows: Sequence[Row]
) -> dict[str, Any]:
    exact = {
        other.channel: getattr(other, side)
        for other in rows
        if other.key == row.key and other.channel in HIGHER_IS_WORSE
    }
    return {
        "group": row.cell,
        "name": f"{row.cell} {side}",
        "fullname": f"bench.regress::{row.cell} {side}",
        "params": None,
        "param": None,
        "extra_info": {
            "entry": row.entry,
            "mechanism": row.mechanism,
            "cell": f"{row.cell} {side}",
            "verdict": str(row.verdict),
            "ratio": row.ratio,
            "low": row.low,
            "high": row.high,
        }
        | exact,
        "options": {},
        "stats": stats(samples) | {"iterations": 1},
    }


def stats(samples: Sequence[float]) -> dict[str, Any]:
    """pytest-benchmark's statistics of some seconds; it shows means, and so this holds one."""
    data = np.sort(np.asarray(samples, dtype=float))
    q1, q3 = (float(q) for q in np.quantile(data, [0.25, 0.75]))
    mean = statistics.fmean(samples)
    deviation = statistics.stdev(samples) if len(samples) > 1 else 0.0
    fence = 1.5 * (q3 - q1)
    inside = data[(data >= q1 - fence) & (data <= q3 + fence)]
    far = int((abs(data - mean) > deviation).sum())
    return {
        "min": float(data[0]),
        "max": float(data[-1]),
        "mean": mean,
        "stddev": deviation,
        "rounds": len(samples),
        "median": float(np.median(data)),
        "iqr": q3 - q1,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": len(data) - len(inside),
        "stddev_outliers": far,
        "outliers": f"{far};{len(data) - len(inside)}",
        "ld15iqr": float(inside[0]),
        "hd15iqr": float(inside[-1]),
        "ops": 1 / mean,
        "total": float(data.sum()),
        "data": list(samples),
    }
