"""One unit measured: its members in shared rounds, or the bytes that they keep for backward."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from bench.cell import Cell
from bench.measure.clock import now_s
from bench.measure.memory import saved_for_backward_bytes
from bench.mechanisms.data import Line
from bench.mechanisms.findings import is_slower
from bench.mechanisms.needs import needs_of
from bench.mechanisms.units import FORMS, SAVED, THREADS, Unit
from bench.statistics import MIN_ROUNDS
from bench.subject import Subject
from bench.worker.jobs import Jobs, Outcome

_DIGITS = 6
"""Of a sample, as stored: the clock has no more."""
_BY_PROCESS = ("rounds", "processes", "calls_per_sample")
"""What a line has of every process."""


def measured(unit: Unit, jobs: Jobs) -> Line:
    """A unit's line for the data; one that failed has a reason and no samples.

    Raises:
        Interrupted: on Ctrl-C, before there is anything to keep.
    """
    started = now_s()
    head = unit.to_dict() | {"reason": None}
    found = _saved(unit) if unit.part == SAVED else _rounds(unit, jobs)
    return head | {"wall_s": round(now_s() - started, 2)} | found


def wants_confirmation(line: Line) -> bool:
    """Whether ours was found slower, and nothing else has said so yet."""
    is_pair = line["part"] in (FORMS, THREADS)
    return is_pair and is_slower(line) and line.get("confirmed_from") is None


def confirming(unit: Unit) -> Unit:
    """The same in as many processes as an interval needs."""
    expected_s = unit.expected_s * MIN_ROUNDS / unit.num_processes
    return replace(unit, num_processes=MIN_ROUNDS, expected_s=expected_s)


def confirmed(unit: Unit, jobs: Jobs, line: Line) -> Line:
    """A unit's line with rounds of further processes, which say on their own whether it is so.

    Args:
        unit: as `confirming` has it.
        jobs: workers.
        line: what was found first.

    Raises:
        Interrupted: on Ctrl-C; the line without them is still good.
    """
    started = now_s()
    first = 1 + max(line["processes"])
    more = _rounds(unit, jobs, first)
    wall_s = round(line["wall_s"] + now_s() - started, 2)
    if "rounds" not in more:
        return unit.to_dict() | {"wall_s": wall_s} | more
    joined = {name: line[name] + more[name] for name in _BY_PROCESS}
    is_noisy = line["is_noisy"] or more["is_noisy"]
    facts = {"confirmed_from": first, "is_noisy": is_noisy, "wall_s": wall_s}
    return line | joined | facts


def _saved(unit: Unit) -> Line:
    """Bytes, not seconds: they are the same in whatever process."""
    return {"saved_bytes": [saved_bytes(cell) for cell in unit.cells]}


def saved_bytes(cell: Cell) -> int:
    """What autograd keeps from one forward pass until its backward pass."""
    subject = Subject(cell)
    first = subject.sets[0]
    return saved_for_backward_bytes(lambda: subject.forward(first), subject.parameters)


def _rounds(unit: Unit, jobs: Jobs, first: int = 0) -> Line:
    """Of the unit's processes, which are numbered from ``first`` on."""
    samples: list[list[float]] = []
    processes: list[int] = []
    calls: list[list[int]] = []
    found: list[dict[str, Any]] = []
    for number in range(first, first + unit.num_processes):
        own, outcome = _rounds_of_one(unit, jobs, number)
        if not outcome.is_ok:
            return {"reason": f"{outcome.status}: {outcome.reason}"}
        samples += own
        processes += [number] * len(own)
        found.append(outcome.values)
        calls.append(outcome.values["calls_per_sample"][_order(number)])
    needs = [needs_of(cell) for cell in unit.cells]
    return {
        "rounds": samples,
        "processes": processes,
        "confirmed_from": None,
        "build_in_turns": True,
        "flops": [
            cell.kernel.flops_factor * one.flops
            for cell, one in zip(unit.cells, needs, strict=True)
        ],
        "num_parameters": [one.num_parameters for one in needs],
        "calls_per_sample": calls,
        "is_noisy": any(values["is_noisy"] for values in found),
    }


def _order(number: int) -> slice:
    """In which a process builds its members, every other one the last of them first.

    Whose tensors are the first in memory can matter by some percent.
    """
    return slice(None, None, -1 if number % 2 else 1)


def _rounds_of_one(unit: Unit, jobs: Jobs, number: int) -> tuple[list[list[float]], Outcome]:
    """A process's samples, round by round, and how it ended."""
    order = _order(number)
    samples: list[list[float]] = []

    def hear(message: dict[str, Any]) -> None:
        if "round" in message:
            samples.append([float(f"{seconds:.{_DIGITS}g}") for seconds in message["round"][order]])

    outcome = jobs.do(
        "rounds",
        hear=hear,
        may_stop=lambda: unit.num_processes == 1 and len(samples) >= unit.stopping.min_rounds,
        plugins=tuple({plugin: None for cell in unit.cells for plugin in cell.plugins}),
        cells=[cell.to_dict() for cell in unit.cells[order]],
        # No interval is looked at while it runs: see `units`.
        reference=None,
        stopping=asdict(unit.stopping),
        order_seed=int(unit.cells[0].block, 16) % 1_000_000 + number,
    )
    return samples, outcome
