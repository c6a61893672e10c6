import pytest

from bench.selftest.findings import findings_of, is_alarm
from tests.bench.selftest.runs import (
    gate_line,
    overhead_line,
    precision_line,
    rival_line,
    write_run,
)


def found(tmp_path, lines):
    return findings_of(write_run(tmp_path, lines))


def test_false_alarms_are_counted_idle_loaded_and_together(tmp_path):
    lines = [gate_line(i) for i in range(150)]
    lines += [gate_line(i, "SLOWER" if i < 2 else "SAME", is_loaded=True) for i in range(150)]
    idle, loaded, together = found(tmp_path, lines).alarms
    assert (idle.slower.hits, loaded.slower.hits, together.slower.hits) == (0, 2, 2)
    assert together.slower.trials == 300
    low, high = together.slower.interval
    assert low < 2 / 300 < high < 0.025


def test_only_what_fails_a_commit_is_a_false_alarm(tmp_path):
    verdicts = ["FASTER", "UNSURE", "SAME", "incomparable"]
    lines = [gate_line(i, verdict) for i, verdict in enumerate(verdicts)]
    series = found(tmp_path, lines).alarms[0]
    assert series.slower.hits == 0 and series.slower.trials == 4


def test_a_comparison_without_an_interval_counts_as_not_found(tmp_path):
    broken = gate_line(1, "incomparable", repeat_every=20)
    for name in ("median", "low", "high", "forks"):
        del broken[name]
    lines = [gate_line(0, "SLOWER", ratio=1.05, repeat_every=20), broken]
    (series,) = found(tmp_path, lines).power
    assert (series.slower.hits, series.slower.trials) == (1, 2)
    assert series.ratio == 1.05 and series.half_width == pytest.approx(0.01 / 1.05)


def test_goals_are_met_missed_or_not_yet_measured(tmp_path):
    lines = [gate_line(i, "SLOWER" if i < 4 else "SAME") for i in range(300)]
    lines += [gate_line(i, "SLOWER" if i else "UNSURE", repeat_every=10) for i in range(20)]
    goals = {goal.words: goal.is_met for goal in found(tmp_path, lines).goals}
    assert goals == {
        "at most 1 % false alarms": False,
        "a slowdown of 10 % is found at least 95 times in 100, idle": True,
        "the harness takes less than 60 ms per cell": None,
    }


def test_beside_the_load_five_per_cent_are_reported_and_not_demanded(tmp_path):
    lines = [gate_line(0, "UNSURE", is_loaded=True, repeat_every=every) for every in (20, 10)]
    result = found(tmp_path, lines)
    assert [series.repeat_every for series in result.power] == [20, 10]
    words = [goal.words for goal in result.goals if "slowdown" in goal.words]
    assert words == ["a slowdown of 10 % is found at least 95 times in 100, beside the load"]


def test_a_rivals_trials_are_judged_by_its_threshold(tmp_path):
    lines = [
        rival_line(0, base=(1.0, 2.0), unchanged=(1.06, 2.0), every_20=(1.04, 2.2)),
        rival_line(1, base=(1.0,), unchanged=(0.9,), every_20=(1.0,)),
    ]
    unchanged, slowed = found(tmp_path, lines).rivals
    assert (unchanged.repeat_every, slowed.repeat_every) == (None, 20)
    assert (unchanged.slower.hits, unchanged.slower.trials) == (1, 3)
    assert (slowed.slower.hits, slowed.slower.trials) == (1, 3)
    assert unchanged.worst == pytest.approx(0.1)


@pytest.mark.parametrize("current", [0.5, 1.0, 1.0499, 1.0501, 2.0])
def test_the_rule_is_that_of_pytest_benchmark_itself(current):
    utils = pytest.importorskip("pytest_benchmark.utils")
    check = utils.parse_compare_fail("median:5%")
    fails = bool(check.fails({"median": current}, {"median": 1.0}))
    assert is_alarm(1.0, current, 0.05) == fails


def test_precision_is_half_the_interval_relative_to_the_speed_up(tmp_path):
    lines = [precision_line(width=0.002), precision_line(is_loaded=True, width=0.02)]
    (cell,) = found(tmp_path, lines).precision
    assert cell.idle == pytest.approx(0.001) and cell.loaded == pytest.approx(0.01)


def test_the_harness_is_what_is_left_of_a_sweep(tmp_path):
    overhead = found(tmp_path, [overhead_line()]).overhead
    timed = 0.1 + 0.3 + 0.2 + 0.1 + 1.0
    assert overhead.harness_s == pytest.approx((2.0 - timed) / 10)
    assert overhead.everything_s == pytest.approx((2.0 - 1.0) / 10)
    assert overhead.steps_s["oracle"] == pytest.approx(0.03)


def test_idle_trials_of_a_busy_machine_are_counted(tmp_path):
    lines = [gate_line(0), gate_line(1, busy_cores=1.9), gate_line(0, is_loaded=True)]
    result = found(tmp_path, lines)
    assert (result.num_disturbed, result.num_idle) == (1, 2)
