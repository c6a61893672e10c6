from bench.measuring.measure.stopping import Stopping

RULE = Stopping(target_half_width=0.02, budget_s=1.0, min_rounds=7, max_rounds=50)


def ask(**changes):
    facts = {"num_rounds": 10, "num_members": 3, "spent_s": 0.5, "half_widths": None}
    return RULE.verdict(**(facts | changes))


def test_rounds_go_on_while_nothing_is_known_and_budget_is_left():
    assert ask() is None
    assert ask(half_widths=[0.01, 0.03]) is None


def test_all_ratios_must_be_precise():
    assert ask(half_widths=[0.01, 0.02]) == "precise"


def test_the_budget_is_per_member():
    assert ask(spent_s=2.9) is None
    assert ask(spent_s=3.0) == "budget"


def test_too_few_rounds_never_stop_whatever_they_cost():
    assert ask(num_rounds=6, spent_s=1000.0, half_widths=[0.0]) is None


def test_rounds_have_an_upper_bound():
    assert ask(num_rounds=50) == "rounds"


def test_the_record_says_precise_when_the_last_round_made_it_so():
    assert ask(num_rounds=50, spent_s=100.0, half_widths=[0.001]) == "precise"


def test_intervals_are_looked_at_now_and_then():
    due = [n for n in range(20) if RULE.is_check_due(n)]
    assert due == [7, 11, 15, 19]


def test_several_processes_share_the_rounds_and_the_budget():
    share = Stopping(min_rounds=7, max_rounds=200, budget_s=3.0, num_processes=6).of_one_process
    assert (share.min_rounds, share.max_rounds, share.budget_s) == (2, 34, 0.5)
    assert Stopping().of_one_process == Stopping()
