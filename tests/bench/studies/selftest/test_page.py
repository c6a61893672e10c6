import pytest

from bench.publishing.document import markdown
from bench.studies.gate.rows import GateVerdict
from bench.studies.selftest.page import Share, goals_of, page_of, series_of
from bench.studies.selftest.rival_suite import PYTEST
from tests.bench.studies.selftest.made_up import origin, trial

TRIALS = [
    *(trial(is_loaded=loaded) for _ in range(30) for loaded in (False, True)),
    *(trial(GateVerdict.SLOWER, percent=5, ratio=1.06) for _ in range(10)),
    trial(GateVerdict.SLOWER, tool=PYTEST, ratio=1.07),
]


def page(trials=TRIALS):
    return markdown(page_of("x.jsonl", origin(), trials))


def verdicts(trials):
    return {goal["goal"]: goal["verdict"] for goal in goals_of(trials)}


def test_machine_commit_date_and_command_stand_at_the_top():
    top = page().partition("## Goals")[0]
    assert "71 trials" in top and "Imaginary 9000, 2 cores" in top
    assert "commit 000000000000; 2031-05-06" in top and "selftest budget=10m`" in top


def test_the_page_shows_counts_with_their_exact_intervals():
    text = page()
    assert "0 of 60 = 0.0 % [0.0, 6.0]" in text  # false alarms, idle and next to a load
    assert "10 of 10 = 100.0 % [69.2, 100.0]" in text
    older = page([trial(percent=7), trial()])  # of a time when other slowdowns were tried
    assert older.index("false alarms |") < older.index("7 % found")
    rival = next(line for line in text.splitlines() if "pytest-benchmark, idle" in line)
    assert "1 of 1 = 100.0 %" in rival and "7.0 %" in rival


def test_a_machine_that_was_not_idle_and_failed_workers_are_told_before_the_goals():
    text = page([trial(busy=1.8), trial(GateVerdict.INCOMPARABLE)]).partition("## Goals")[0]
    assert "was not idle** in 1 of the 2" in text and "1 trials ended without" in text
    assert "was not idle" not in page([trial(), trial(is_loaded=True, busy=2.0)])


def test_a_goal_is_met_where_its_whole_interval_meets_it_and_missed_where_nothing_does():
    alarms = "at most 1 % false alarms, idle and next to a load"
    wrong = [trial(GateVerdict.SLOWER)]
    half = [trial()] * 185 + [trial(is_loaded=True)] * 184
    assert verdicts([*half, trial(is_loaded=True)]) == {alarms: "met"}
    assert verdicts([*half, *wrong]) == {alarms: "not met"}
    assert verdicts([trial()] * 32) == {alarms: "not met"}
    assert verdicts([trial()] * 9 + wrong * 4) == {alarms: "missed"}


def test_a_slowdown_is_surely_found_where_the_whole_interval_says_so():
    found = trial(GateVerdict.SLOWER, percent=5)
    (goal,) = verdicts([found] * 75)
    assert verdicts([found] * 75) == {goal: "met"}
    assert verdicts([found] * 74 + [trial(percent=5)]) == {goal: "not met"}
    assert verdicts([found] * 20) == {goal: "not met"}
    assert verdicts([found] * 5 + [trial(percent=5)] * 15) == {goal: "missed"}


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [
        # Closed forms at the ends: 1 - (tail) ** (1 / n), and its mirror.
        (0, 300, 0.0, 1 - 0.025 ** (1 / 300)),
        (300, 300, 0.025 ** (1 / 300), 1.0),
        # As printed in tables of the interval.
        (1, 10, 0.00253, 0.44502),
        (95, 100, 0.88717, 0.98357),
        (0, 370, 0.0, 0.00992),  # no alarm of 370 shows less than one in a hundred
    ],
)
def test_the_interval_of_a_share_is_the_exact_one(hits, trials, low, high):
    assert Share(hits=hits, trials=trials).interval == pytest.approx((low, high), abs=2e-5)


def test_errors_are_relative_to_the_true_ratio():
    (series,) = series_of([trial(percent=5, ratio=1.05), trial(percent=5, ratio=1.0)])
    assert series.worst_error == pytest.approx(1 - 1 / 1.05)
    assert series.half_width == pytest.approx((0.01 / 1.05 + 0.01) / 2)
    assert str(Share(hits=1, trials=2)) == "1 of 2 = 50.0 % [1.3, 98.7]"
