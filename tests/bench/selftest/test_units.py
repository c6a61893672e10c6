import itertools
from collections import Counter

import pytest

from bench.selftest.config import PARTS
from bench.selftest.units import id_of, plan_units
from tests.bench.selftest.runs import config


def series(unit):
    return unit.id[:-1]


def test_every_series_has_the_number_of_trials_that_was_asked_for():
    units = plan_units(config(), PARTS)
    counts = Counter(map(series, units))
    assert counts["alarms", False, None, None] == counts["alarms", True, None, None] == 150
    for is_loaded in (False, True):
        for every in (20, 10, 5):
            assert counts["power", is_loaded, every, None] == 100
        for tool in ("pytest_benchmark", "torch_timer"):
            assert counts["rivals", is_loaded, None, tool] * config().rivals.cells_per_process >= 50
        assert counts["precision", is_loaded, None, None] == 2
    assert counts["overhead", False, None, None] == 2
    assert len({unit.id for unit in units}) == len(units)


def test_an_odd_number_of_alarm_trials_loses_none():
    units = plan_units(config(alarms={"num_trials": 7}), ("alarms",))
    assert Counter(unit.is_loaded for unit in units) == {False: 4, True: 3}


def test_a_run_that_is_stopped_half_way_has_half_of_every_series():
    units = plan_units(config(), PARTS)
    whole, half = Counter(map(series, units)), Counter(map(series, units[: len(units) // 2]))
    for name, count in whole.items():
        assert abs(half[name] - count / 2) <= max(1, count / 10), name


def test_the_load_is_switched_once_a_lap_and_not_for_every_trial():
    loads = [unit.is_loaded for unit in plan_units(config(laps=4), PARTS)]
    switches = sum(a != b for a, b in itertools.pairwise(loads))
    assert switches == 2 * 4 - 1
    assert not loads[0]


def test_parts_that_are_not_asked_for_are_left_out():
    assert {unit.part for unit in plan_units(config(), ("power", "overhead"))} == {
        "power",
        "overhead",
    }


def test_the_defaults_are_expected_to_fit_into_the_hour():
    assert sum(unit.expected_s for unit in plan_units(config(), PARTS)) < 60 * 60


def test_a_line_of_data_names_its_unit():
    for unit in plan_units(config(), PARTS)[::50]:
        assert id_of(unit.to_dict() | {"wall_s": 1.0}) == unit.id


@pytest.mark.parametrize(
    ("part", "words"), [("power", "power +5 % idle"), ("rivals", "rivals pytest_benchmark idle")]
)
def test_a_unit_describes_itself(part, words):
    assert plan_units(config(), (part,))[0].describe() == words
