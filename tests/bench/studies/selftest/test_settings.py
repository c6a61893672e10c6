import pytest

from bench.core.cli.errors import ConfigError
from bench.studies.selftest.study import Trials
from tests.bench.studies.selftest.made_up import config, sweep


def test_a_short_run_is_asked_for_by_trials_or_by_time():
    usual = config()
    assert usual.trials == Trials(unchanged=370, slowdown=75, rivals=20)
    assert usual.budget == 3600.0 and config(budget="5m").budget == 300.0
    assert config(trials={"rivals": 10}).trials.rivals == 10


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trials": {"unchanged": 1}}, "trials.unchanged is 1; "),
        ({"trials": {"all": 5}}, "trials.all is not a key"),
        ({"trials": 10}, "trials"),
        ({"budget": "long"}, "budget is 'long'; it takes a duration such as 90s"),
        ({"rivals": ["timeit"]}, "rivals=timeit is not known"),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_key(changes, words):
    with pytest.raises(ConfigError, match=words):
        config(**changes)


def test_the_cells_are_set_as_in_a_sweep():
    with pytest.raises(ConfigError, match="seq_len is 0"):
        sweep(seq_len=0)
    assert not sweep().task
