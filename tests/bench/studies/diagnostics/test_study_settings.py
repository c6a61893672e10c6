"""Settings of `diagnose`: sizes of random inputs, and the sweep of its trained part."""

import pytest

from bench.core.cli.command import read_yaml
from bench.core.cli.errors import ConfigError
from bench.core.places import CONF
from bench.studies.diagnostics.study import Diagnose

ROWS = {"linear": {"mechanism": "linear"}}
RECALL = {"recall": {"task": "recall", "vocab_size": 16}}


def asked(tmp_path, **given):
    return Diagnose.read({"attention": ROWS, "task": RECALL, "out": str(tmp_path)} | given)


def test_norms_are_in_order_and_a_norm_alone_is_one(tmp_path):
    assert asked(tmp_path, norms=[4.0, 0.5, 2.0]).norms == (0.5, 2.0, 4.0)
    assert asked(tmp_path, norms=3.0).norms == (3.0,)


def test_softmax_is_trained_beside_the_rows_under_every_seed_and_with_their_plugins(tmp_path):
    settings = asked(tmp_path, seed=[3, 5], plugins=["json"])
    training = settings.training({"attention": ROWS})
    assert [entry.label for entry in training.attention] == ["softmax", "linear"]
    assert training.axes.seed == (3, 5) and training.plugins == ("json",)
    assert training.out == tmp_path and [task.label for task in training.task] == ["recall"]


def test_a_softmax_among_the_rows_keeps_its_settings_and_its_place(tmp_path):
    rows = ROWS | {"softmax": {"mechanism": "softmax", "rope": True}}
    training = asked(tmp_path).training({"attention": rows})
    (softmax,) = (entry for entry in training.attention if entry.label == "softmax")
    assert softmax.hyperparameters == {"rope": True}


def test_rates_of_training_are_those_that_were_chosen(tmp_path):
    assert asked(tmp_path, rates={}).training({"attention": ROWS}).rates == ()
    searched = read_yaml(CONF / "rates" / "searched.yaml")
    assert asked(tmp_path, rates=searched).training({"attention": ROWS}).rates != ()


@pytest.mark.parametrize(("task", "count"), [({}, 0), (None, 0), (RECALL | {"more": {}}, 2)])
def test_one_task_is_trained_on_if_any(tmp_path, task, count):
    with pytest.raises(ConfigError, match=f"task names {count} tasks; one is looked at"):
        asked(tmp_path, task=task).training({"attention": ROWS})
    assert asked(tmp_path, task=task, trained=False).training({"attention": ROWS}) is None
