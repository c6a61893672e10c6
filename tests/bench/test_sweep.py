"""What a sweep measures again."""

from dataclasses import replace

import pytest

from bench.machine import environment
from bench.machine.environment import freshness
from bench.plan import PlannedCell, reference_cell
from bench.sweep import missing
from tests import records as made

CELL = made.kernel_cell("linear", hyperparameters={"eps": 1e-6})
PLANNED = PlannedCell(cell=CELL)


@pytest.fixture(scope="module")
def here():
    return environment.current(("cpu",), "retain", {})


def measured(here):
    """A record of the planned cell, measured with what there is here."""
    speed = made.speed([0.1] * 8, reference_key=reference_cell(CELL).key)
    return made.ok_record(CELL, speed, freshness=freshness(CELL, here))


def test_what_was_measured_with_the_same_things_is_not_measured_again(here):
    assert missing([PLANNED], [measured(here)], here) == []


@pytest.mark.parametrize(
    "change", [{"allocator": "default"}, {"processor": "another"}, {"versions": {"torch": "9.9"}}]
)
def test_a_number_made_with_other_things_is_measured_again(here, change):
    assert missing([PLANNED], [measured(here)], replace(here, **change)) == [PLANNED]
    stale = replace(measured(here), freshness="of another source")
    assert missing([PLANNED], [stale], here) == [PLANNED]
