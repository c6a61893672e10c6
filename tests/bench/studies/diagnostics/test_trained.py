import pytest
import torch

from bench.core.cli.errors import ConfigError
from bench.measuring.tasks.base import Batch, Split, Task, build_task
from bench.measuring.tasks.match import matched
from bench.measuring.tasks.model import Backbone, build_model
from bench.studies.diagnostics import trained
from bench.studies.diagnostics.trained import first_examples, swapped_in, trained_on
from tests import records as made

SMALL = {
    **{"vocab_size": 16, "num_pairs": 2, "seq_len": 32, "num_test_examples": 16, "batch_size": 4},
    **{"embed_dim": 16, "num_heads": 1, "learning_rate": 0.01},
}
TASK = build_task("recall", SMALL)


def test_examples_come_from_as_many_batches_as_they_take():
    whole = Batch.join([*TASK.batches(Split.TEST, 0)])
    assert torch.equal(first_examples(TASK, 0, 10).inputs, whole.inputs[:10])


def test_more_examples_than_there_are_is_bad_input():
    with pytest.raises(ConfigError, match="num_examples is 17, and the test set of recall has 16"):
        first_examples(TASK, 0, 17)


def test_what_takes_the_place_of_a_matched_softmax_has_its_size_and_its_parameters(monkeypatch):
    swapped: list[Backbone] = []
    tuned: list[Task] = []

    def fit(model, task, *_):
        swapped.append(model)
        tuned.append(task)

    monkeypatch.setattr(trained, "fit", fit)
    cell = made.task_cell(settings=SMALL | {"causal": True, "match": "state"})
    own = matched(cell)[0].task.settings
    assert own["embed_dim"] != SMALL["embed_dim"]
    softmax = build_model(build_task("recall", own), "softmax", {}, 1)
    found = {(what, when): x for what, when, x in swapped_in(trained_on(cell, softmax), cell, 1)}
    assert found["drop-in regret", "before"] == 0
    kept = dict(softmax.named_parameters())
    assert all(torch.equal(p, kept[name]) for name, p in swapped[0].named_parameters())
    recipe = tuned[0].recipe
    assert (recipe.num_steps, recipe.learning_rate) == (1, pytest.approx(0.001))


@pytest.mark.parametrize(("better", "regrets"), [("higher", (0.3, 0.1)), ("lower", (-0.3, -0.1))])
def test_regret_is_how_much_worse_the_score_is(monkeypatch, better, regrets):
    scores = iter((0.9, 0.6, 0.8))
    monkeypatch.setattr(trained, "score_on_test_set", lambda *_: next(scores))
    monkeypatch.setattr(trained, "fit", lambda *_: None)
    monkeypatch.setattr(type(TASK), "better", better)
    cell = made.task_cell(settings=SMALL)
    softmax = build_model(TASK, "softmax", {}, 1)
    found = {(what, when): x for what, when, x in swapped_in(trained_on(cell, softmax), cell, 1)}
    assert found["drop-in regret", "before"] == pytest.approx(regrets[0])
    assert found["drop-in regret", "after"] == pytest.approx(regrets[1])
    assert found["score in softmax's place", "after"] == 0.8
