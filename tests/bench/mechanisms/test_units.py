"""A unit and the line that stands for it."""

from __future__ import annotations

from bench.mechanisms.config import read_mechanisms_config
from bench.mechanisms.planning import plan_units
from bench.mechanisms.units import id_of
from tests.bench.mechanisms.runs import composed


def test_a_unit_is_known_by_its_line_and_no_two_are_alike() -> None:
    config = read_mechanisms_config(composed())
    planned = plan_units(config, memory_bytes=24 * 2**30, num_cores=2)
    assert len({unit.id for unit in planned}) == len(planned)
    assert all(id_of(unit.to_dict()) == unit.id for unit in planned)
    assert all(unit.expected_s > 0 and unit.describe() for unit in planned)
