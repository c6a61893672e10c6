"""What the gate and a sweep say of this tree, compared with itself or with softmax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from bench.cell import Cell
from bench.gate.trees import HERE
from bench.gate.verdict import confidence_tail
from bench.gate.versus import compare
from bench.measure.stopping import Stopping
from bench.plan import reference_cell
from bench.selftest.config import SelftestConfig
from bench.selftest.data import Line
from bench.selftest.units import Unit
from bench.statistics import median, paired_ratio
from bench.worker.jobs import Jobs

_NO_END = 10**9


def short_name(cell: Cell) -> str:
    """A cell's entry and length; all else is the same for all of them."""
    return f"{cell.entry} {cell.kernel.seq_len}"


def ask_the_gate(unit: Unit, cells: Sequence[Cell], config: SelftestConfig, jobs: Jobs) -> Line:
    """A whole comparison of one cell, as `bench.regress` would make it of two commits."""
    cell = cells[unit.index % len(cells)]
    found = compare(
        cell,
        cell,
        HERE,
        jobs,
        config.effort,
        tail=confidence_tail(1, config.family_error),
        repeat_every=unit.repeat_every,
    )
    line: Line = {"cell": short_name(cell), "verdict": str(found.verdict)}
    if found.interval is None:
        return line | {"reason": found.reason}
    interval = {name: round(value, 4) for name, value in asdict(found.interval).items()}
    # The rounds themselves would be most of the data, and say little more than their medians.
    forks = [round(median(fork) or 0.0, 4) for fork in found.forks]
    return line | interval | {"forks": forks}


def measure_precision(
    unit: Unit, cells: Sequence[Cell], config: SelftestConfig, jobs: Jobs
) -> Line:
    """How well speed-ups over softmax are known when a sweep's time per cell is spent.

    Raises:
        RuntimeError: the cells of one length could not be timed.
    """
    seq_len = config.precision_seq_len[unit.index]
    members = _block(cells, seq_len)
    rounds: list[list[float]] = []
    stopping = Stopping(budget_s=config.precision_budget_s, max_rounds=_NO_END)
    outcome = jobs.do(
        "rounds",
        hear=lambda message: rounds.append(message["round"]) if "round" in message else None,
        plugins=cells[0].plugins,
        cells=[cell.to_dict() for cell in members],
        reference=None,  # nobody looks at the widths: the time is to be spent
        stopping=asdict(stopping),
        order_seed=unit.index,
    )
    if not outcome.is_ok:
        raise RuntimeError(f"precision at seq_len={seq_len}: {outcome.status}: {outcome.reason}")
    columns = list(zip(*rounds, strict=True))
    numbers = range(len(rounds))
    found = []
    for cell, samples in zip(members[1:], columns[1:], strict=True):
        ratio = paired_ratio(samples, numbers, columns[0], numbers)
        assert ratio is not None and ratio.low is not None and ratio.high is not None
        found.append(
            {
                "cell": short_name(cell),
                "median": round(ratio.median, 5),
                "low": round(ratio.low, 5),
                "high": round(ratio.high, 5),
                "num_rounds": ratio.num_rounds,
            }
        )
    return {"seq_len": seq_len, "cells": found}


def _block(cells: Sequence[Cell], seq_len: int) -> list[Cell]:
    """Softmax, and every other entry once, at a length."""
    entries = {cell.entry: cell for cell in cells}
    at_length = [
        replace(cell, workload=replace(cell.kernel, seq_len=seq_len)) for cell in entries.values()
    ]
    reference = reference_cell(at_length[0])
    return [reference, *(cell for cell in at_length if cell.key != reference.key)]
