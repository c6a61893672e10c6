"""Export a comparison to two other tools: github-action-benchmark and pytest-benchmark."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.cli.files import write_whole
from bench.measuring.machine.environment import Environment
from bench.studies.gate.exact import HIGHER_IS_WORSE
from bench.studies.gate.rows import LATENCY, GateRow

FORM_VERSION = "5.0.0"
"""Version of pytest-benchmark whose JSON format is written."""

_EXTRA = ("entry", "mechanism", "verdict", "ratio", "low", "high")


def write_exports(
    rows: Sequence[GateRow], out: Path, here: Environment | None, date: str
) -> list[Path]:
    """Write ``regress-smaller-is-better.json`` and, for two commits, ``regress-pytest.json``.

    Args:
        rows: of the comparison.
        out: folder for the files.
        here: machine and commit of the current side; None where nothing was timed now.
        date: UTC, ISO 8601.
    """
    contents: dict[str, object] = {"regress-smaller-is-better.json": smaller_is_better(rows)}
    if here is not None:
        contents["regress-pytest.json"] = pytest_json(rows, here, date)
    texts = {name: json.dumps(value, indent=1, allow_nan=False) for name, value in contents.items()}
    return [write_whole(out / name, text + "\n") for name, text in texts.items()]


def smaller_is_better(rows: Sequence[GateRow]) -> list[dict[str, object]]:
    """Rows with a ratio, in github-action-benchmark's format ``customSmallerIsBetter``.

    An accuracy, of which more is better, is listed by base / current; one that fell to 0 has no
    such ratio and is left out.
    """
    listed: list[dict[str, object]] = []
    for row in rows:
        if row.ratio is None or row.low is None or row.high is None:
            continue
        unit, growth = "ratio to base", (row.ratio, row.low, row.high)
        if not HIGHER_IS_WORSE.get(row.channel, True):
            if row.low <= 0:
                continue
            unit, growth = "base / current", (1 / row.ratio, 1 / row.high, 1 / row.low)
        value, low, high = growth
        ends = f"{low:.4f} - {high:.4f}"
        one = {"name": f"{row.cell} {row.channel}", "unit": unit, "value": value, "range": ends}
        listed.append(one | {"extra": str(row.verdict)})
    return listed


def pytest_json(rows: Sequence[GateRow], here: Environment, date: str) -> dict[str, Any]:
    """Both sides of every timed cell as two benchmarks, for ``pytest-benchmark compare``.

    Each sample comes from one process that timed both sides; the base's is the current side's
    divided by the median ratio in that process. The host name is left out.
    """
    cpu = {"brand_raw": here.processor}
    return {
        "machine_info": {"node": "", "system": platform.system(), "cpu": cpu},
        "commit_info": {"id": here.commit or "unversioned", "dirty": bool(here.is_dirty)},
        "benchmarks": [
            {
                "group": row.cell,
                "name": f"{row.cell} {side}",
                "fullname": f"bench.regress::{row.cell} {side}",
                **{"params": None, "param": None},
                "extra_info": {name: row.to_dict()[name] for name in _EXTRA}
                | {
                    other.channel: getattr(other, side)
                    for other in rows
                    if other.key == row.key and other.channel in HIGHER_IS_WORSE
                },
                "stats": stats([pair[index] for pair in row.samples_s]),
            }
            for row in rows
            if row.channel == LATENCY and row.samples_s
            for index, side in enumerate(("base", "current"))
        ],
        "datetime": date,
        "version": FORM_VERSION,
    }


def stats(samples: Sequence[float]) -> dict[str, Any]:
    """Statistics of seconds per call that pytest-benchmark's tables and charts show."""
    data = np.asarray(samples, dtype=float)
    q1, middle, q3 = (float(q) for q in np.quantile(data, [0.25, 0.5, 0.75]))
    mean = statistics.fmean(samples)
    deviation = statistics.stdev(samples) if len(samples) > 1 else 0.0
    fence = 1.5 * (q3 - q1)
    inside = data[(data >= q1 - fence) & (data <= q3 + fence)]
    far = int((abs(data - mean) > deviation).sum())
    return {
        **{"min": float(data.min()), "max": float(data.max()), "mean": mean, "stddev": deviation},
        **{"median": middle, "q1": q1, "q3": q3, "iqr": q3 - q1},
        **{"ld15iqr": float(inside.min()), "hd15iqr": float(inside.max())},
        "outliers": f"{far};{len(data) - len(inside)}",
        **{"rounds": len(samples), "iterations": 1, "ops": 1 / mean, "data": list(samples)},
    }
