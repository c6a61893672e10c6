import pytest
import torch

from bench.core.cli.errors import ConfigError
from bench.measuring.tasks.base import Batch, Split, build_task
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
    monkeypatch.setattr(trained, "fit", lambda model, *_: swapped.append(model))
    cell = made.task_cell(settings=SMALL | {"causal": True, "match": "state"})
    own = matched(cell)[0].task.settings
    assert own["embed_dim"] != SMALL["embed_dim"]
    softmax = build_model(build_task("recall", own), "softmax", {}, 1)
    found = {(what, when): x for what, when, x in swapped_in(trained_on(cell, softmax), cell, 1)}
    assert found["drop-in regret", "before"] == 0
    kept = dict(softmax.named_parameters())
    assert all(torch.equal(p, kept[name]) for name, p in swapped[0].named_parameters())
