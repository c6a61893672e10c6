import pytest

from bench.measuring.measure.stopping import Stopping

RULE = Stopping(target_half_width=0.02, budget_s=1.0, min_rounds=7, max_rounds=50)


def ask(**changes):
    facts = {"num_rounds": 10, "num_members": 3, "spent_s": 0.5, "half_widths": None}
    return RULE.verdict(**(facts | changes))


@pytest.mark.parametrize(
    ("facts", "verdict"),
    [
        ({}, None),
        ({"half_widths": [0.01, 0.03]}, None),
        ({"half_widths": [0.01, 0.02]}, "precise"),
        ({"spent_s": 2.9}, None),
        ({"spent_s": 3.0}, "budget"),  # of three members
        ({"num_rounds": 6, "spent_s": 1000.0, "half_widths": [0.0]}, None),  # too few
        ({"num_rounds": 50}, "rounds"),
        ({"num_rounds": 50, "spent_s": 100.0, "half_widths": [0.001]}, "precise"),
    ],
    ids=str,
)
def test_rounds_end_when_all_ratios_are_precise_or_a_bound_is_reached(facts, verdict):
    assert ask(**facts) == verdict


def test_intervals_are_looked_at_now_and_then():
    due = [n for n in range(20) if RULE.is_check_due(n)]
    assert due == [7, 11, 15, 19]


def test_several_processes_share_the_rounds_and_the_budget():
    share = Stopping(min_rounds=7, max_rounds=200, budget_s=3.0, num_processes=6).of_one_process
    assert (share.min_rounds, share.max_rounds, share.budget_s) == (2, 34, 0.5)
    assert Stopping().of_one_process == Stopping()
