"""Units of work, the cells that one sweep measures together, and their order."""

from __future__ import annotations

from collections.abc import Sequence

from bench.core.cell import Cell
from bench.core.grouping import grouped
from bench.measuring.costs.estimate import expected_s
from bench.measuring.machine.environment import Environment, kind_of_machine
from bench.measuring.measure.stopping import Stopping

Unit = list[Cell]
"""A block of cells that are timed side by side, or one cell that is trained."""


def blocks(cells: Sequence[Cell]) -> list[Unit]:
    """Group cells into the blocks that are timed together, in order of their first cells."""
    return list(grouped(cells, lambda cell: cell.block).values())


def name_of(unit: Unit, environment: Environment) -> str:
    """Name of a unit for leases; units of equal names give interchangeable results."""
    kind = kind_of_machine(unit[0].device, environment)
    return f"{unit[0].key if unit[0].is_task else unit[0].block}-{kind}"


def name_of_skips(cells: Sequence[Cell], environment: Environment) -> str:
    """Name for leases of the cells of a sweep that cannot be measured."""
    return "skipped-" + kind_of_machine(cells[0].device, environment)


def in_order(units: list[Unit], stopping: Stopping, *, is_across_machines: bool) -> list[Unit]:
    """Sort units: cheapest first, so that a table is there soon; across machines longest first.

    Then no machine is left with a long unit when the others have finished.
    """

    def expected(unit: Unit) -> float:
        return sum(expected_s(cell, stopping) for cell in unit)

    return sorted(units, key=expected, reverse=is_across_machines)
