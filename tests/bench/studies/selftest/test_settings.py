import pytest

from bench.core.cli.errors import ConfigError
from bench.studies.selftest.settings import Trials
from tests.bench.studies.selftest.made_up import config, sweep


def test_a_short_run_is_asked_for_by_trials_or_by_time():
    usual = config()
    assert usual.trials == Trials(unchanged=370, slowdown=75, rivals=20)
    assert usual.budget == 3600.0 and config(budget="5m").budget == 300.0
    assert config(trials={"rivals": 10}).trials.rivals == 10


def test_rivals_have_as_much_time_per_side_as_the_gate_with_its_first_forks():
    assert config(effort={"num_forks": 4, "fork_s": 0.5}).side_s == 1.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trials": {"unchanged": 371}}, "trials.unchanged is 371; it must be even"),
        ({"trials": {"all": 5}}, "trials.all is not a key"),
        ({"trials": 10}, "trials"),
        ({"budget": "long"}, "budget is 'long'; it takes a duration such as 90s"),
        ({"slowdowns": [7]}, "slowdowns is 7; it takes 5, 10"),
        ({"slowdowns": []}, "slowdowns=\\[\\] is empty"),
        ({"rivals": {"tools": ["timeit"]}}, "rivals.tools=timeit is not known"),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_key(changes, words):
    with pytest.raises(ConfigError, match=words):
        config(**changes)


def test_the_cells_are_set_as_in_a_sweep():
    with pytest.raises(ConfigError, match="seq_len is 0"):
        sweep(seq_len=0)
    assert not sweep().task
