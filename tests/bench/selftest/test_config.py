import pytest

from bench.app.errors import ConfigError
from bench.selftest.config import read_selftest_config
from tests.bench.selftest.runs import composed, config


def test_the_defaults_ask_for_as_many_trials_as_the_claims_need():
    defaults = config()
    assert defaults.num_alarm_trials >= 300
    assert defaults.num_power_trials >= 100 and defaults.power_repeats == (20, 10, 5)
    assert defaults.rivals.num_trials >= 50 and defaults.rivals.repeat_every == (20, 10)
    assert defaults.precision_budget_s == 5
    assert defaults.max_minutes == 60


def test_rivals_have_as_much_time_per_side_as_the_gate_with_its_first_forks():
    effort = config().effort
    assert config().rivals.budget_s == pytest.approx(effort.num_forks * effort.fork_s / 2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"parts": ["alarm"]}, "alarm is not known. Did you mean alarms"),
        ({"rivals": {"tools": ["timeit"]}}, "timeit is not known"),
        ({"rivals": {"repeat_every": [7]}}, "divisors of 20"),
        ({"rivals": {"threshold": 5}}, "rivals.threshold is 5"),
        ({"alarms": {"num_trials": 0}}, "alarms.num_trials is 0"),
        ({"power": {"repeat_every": []}}, "leaves nothing to measure"),
        ({"effort": {"num_forks": 1}}, "effort.num_forks is 1"),
        ({"threshold": -1}, "threshold is -1"),
        ({"laps": 2.5}, "laps is 2.5"),
        ({"max_minutes": "long"}, "max_minutes is 'long'"),
        ({"seq_len": 0}, "seq_len is 0"),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_key(changes, words):
    with pytest.raises(ConfigError, match=words.replace("(", r"\(")):
        config(**changes)


def test_a_section_that_is_no_section_is_refused():
    with pytest.raises(ConfigError, match="power is 3; it has keys of its own"):
        read_selftest_config(composed() | {"power": 3})


def test_settings_say_what_a_number_means_and_not_where_it_goes(tmp_path):
    base = config().settings
    assert config(out=str(tmp_path), page="x.md", max_minutes=3, parts=["power"]).settings == base
    assert config(effort={"fork_s": 0.3}).settings != base
    assert config(seq_len=[64]).settings != base
