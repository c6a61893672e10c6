import pytest

from bench.core.cli.errors import ConfigError
from bench.studies.gate.config import read_gate_config
from tests.bench.measuring.test_config import BASE

GATE = BASE | {
    "base": None,
    "baseline": None,
    "current": None,
    "threshold": 0.03,
    "stored_threshold": 0.2,
    "family_error": 0.01,
    "accept": [],
    "budget_s": 15,
    "task_settings": {"num_steps": 40},
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"threshold": -0.01}, "threshold is -0.01; it must be 0 or more"),
        ({"threshold": 1.5}, "threshold is 1.5; it must be 1 or less"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"threshold": "3 %"}, "threshold is '3 %'; it takes a number"),
        ({"stored_threshold": -1}, "stored_threshold"),
        ({"stored_threshold": 11}, "stored_threshold is 11; it must be 10 or less"),
        ({"family_error": 0}, "family_error"),
        ({"family_error": 0.6}, "family_error is 0.6; it must be 0.5 or less"),
        ({"budget_s": -1}, "budget_s"),
        ({"budget_s": float("inf")}, "budget_s is inf; it takes a finite number"),
        ({"base": 1234}, "base is 1234; it takes a name"),
        ({"base": "main", "baseline": "x"}, "base and baseline are given; choose one"),
        ({"current": "x"}, "current is given without baseline"),
        ({"accept": ["nala/flops"]}, "without a reason"),
    ],
)
def test_a_wrong_key_is_refused_with_what_it_takes(changes, words):
    with pytest.raises(ConfigError) as caught:
        read_gate_config(GATE | changes)
    assert words in str(caught.value)


def test_task_settings_make_every_training_run_short():
    config = read_gate_config(GATE | {"task_settings": {"num_steps": 3}})
    assert config.sweep.task[0].settings["num_steps"] == 3


def test_a_comparison_takes_the_effort_that_was_asked_for():
    config = read_gate_config(GATE | {"threshold": 0.07, "budget_s": 4})
    assert (config.effort.threshold, config.effort.budget_s) == (0.07, 4.0)
