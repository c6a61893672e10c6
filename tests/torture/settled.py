"""Checks of a store after the commands that wrote it were killed or ran out of room."""

from __future__ import annotations

import functools
import re
import tempfile
from collections import Counter
from pathlib import Path

from bench import sweep
from bench.core.lines import Lines
from bench.core.store import read_store
from bench.measuring.run import is_measured
from bench.studies.convert.page import CURVES, Curve
from tests.torture.trial import SWEEP, here


@functools.cache
def planned(plan: tuple[str, ...]) -> frozenset[str]:
    """The keys of the cells that these words plan."""
    with tempfile.TemporaryDirectory() as folder:
        ended = here(sweep.main, [*plan, "dry_run=true"], Path(folder))
    keys = frozenset(re.findall(r"^([0-9a-f]{16})  ", ended.said, re.MULTILINE))
    if f"{len(keys)} cells: {len(keys)} to measure" not in ended.said:
        raise RuntimeError(f"The cells of a plan are not told:\n{ended.said}")
    return keys


def fault_of_store(out: Path, *, is_done: bool, plan: tuple[str, ...] = SWEEP) -> str:
    """Faults in the records of a sweep of a plan that was stopped, or is done.

    Each line must be a record; each cell must be measured once at most, and once if all is done.
    """
    contents = read_store(out, missing_ok=True)
    if contents.left_out:
        return "\n".join(contents.describe())
    times = Counter(record.cell.key for record in contents.records if is_measured(record))
    if foreign := set(times) - planned(plan):
        return f"records of no planned cell: {sorted(foreign)}"
    if twice := sorted(key for key, count in times.items() if count > 1):
        return f"measured more than once: {', '.join(twice)}"
    if is_done and (never := sorted(planned(plan) - set(times))):
        return f"no settled record of {', '.join(never)}"
    leases = list((out / "claims").glob("*")) if is_done else []
    return f"leases are left: {leases}" if leases else ""


def fault_of_trainings(out: Path, is_done: bool) -> str:
    """Faults in the store of a study that trains: a damaged line, or a cell twice."""
    contents = read_store(out, missing_ok=not is_done)
    if contents.left_out:
        return "\n".join(contents.describe())
    times = Counter(record.cell.key for record in contents.records if is_measured(record))
    twice = sorted(key for key, count in times.items() if count > 1)
    return f"trained more than once: {', '.join(twice)}" if twice else ""


def fault_of_curves(out: Path, is_done: bool) -> str:
    """Faults in the curves of conversions: a damaged line, one twice, or one missing."""
    keys = [curve.key for curve in Lines[Curve](out / CURVES, Curve).read(missing_ok=True)]
    if len(set(keys)) < len(keys):
        return f"converted more than once: {keys}"
    return f"{len(keys)} conversions of 4" if is_done and len(keys) != 4 else ""
