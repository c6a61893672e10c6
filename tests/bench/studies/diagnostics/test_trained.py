import pytest
import torch

from bench.core.cli.errors import ConfigError
from bench.measuring.tasks.base import Batch, Split, Task, build_task
from bench.measuring.tasks.match import matched
from bench.measuring.tasks.model import Backbone, build_model
from bench.measuring.weights import NoWeights
from bench.studies.diagnostics import trained
from bench.studies.diagnostics.look import gradients, of_own_norms, of_weights
from bench.studies.diagnostics.trained import (
    first_examples,
    of_model,
    own_calls,
    swapped_in,
    take_over,
    trained_on,
)
from tests import records as made

SMALL = {
    **{"vocab_size": 16, "num_pairs": 2, "seq_len": 32, "num_test_examples": 16, "batch_size": 4},
    **{"embed_dim": 16, "num_heads": 1, "learning_rate": 0.01},
}
TASK = build_task("recall", SMALL)
FUNCTIONS = (of_weights, of_own_norms, gradients)
NAMES = ("softmax", "gla", "softmax")


def test_examples_come_from_as_many_batches_as_they_take():
    whole = Batch.join([*TASK.batches(Split.TEST, 0)])
    assert torch.equal(first_examples(TASK, 0, 10).inputs, whole.inputs[:10])


def test_a_whole_test_set_is_enough_examples():
    assert len(first_examples(TASK, 0, 16).inputs) == 16


def causal_task(**more):
    return SMALL | {"causal": True, "num_layers": 2} | more


@pytest.mark.parametrize(("mechanism", "gates"), [("softmax", set()), ("gla", {"log_decay"})])
def test_inputs_of_each_core_are_seen_in_float64_for_evaluation(mechanism, gates):
    settings = causal_task()
    cell = made.task_cell(mechanism, settings=settings)
    model = build_model(build_task("recall", settings), mechanism, {}, 1).train()
    hooks = [len(module._forward_pre_hooks) for module in model.modules()]
    calls = own_calls(trained_on(cell, model), 0, 3)
    assert len(calls) == 2 and not model.training
    for call in calls:
        assert call.q.shape == (3, 1, 32, 16) and call.q.dtype == torch.float64
        assert set(call.gates) == gates
        assert all(gate.dtype == torch.float64 for gate in call.gates.values())
        assert all(p.dtype == torch.float64 for p in call.core.parameters())
    assert hooks == [len(module._forward_pre_hooks) for module in model.modules()]
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_queries_and_keys_are_those_before_rotary_positions_rotate_them():
    settings = SMALL | {"position": "rope", "num_layers": 1}
    model = build_model(build_task("recall", settings), "softmax", {}, 1)
    (call,) = own_calls(trained_on(made.task_cell(settings=settings), model), 0, 2)
    seen = []
    layer = model.blocks[0].mixer
    layer = getattr(layer, "layer", layer)
    layer.core.register_forward_hook(lambda core, inputs, out: seen.append(out))
    model.eval()
    with torch.no_grad():
        batch = first_examples(build_task("recall", settings), 0, 2)
        model(batch.inputs, batch.positions)
        again = call.core(call.q, call.k, call.v)
    torch.testing.assert_close(again.float(), seen[0])


def test_numbers_of_each_layer_are_of_weights_of_norms_and_of_gradients():
    model = build_model(build_task("recall", SMALL | {"num_layers": 2}), "softmax", {}, 1)
    cell = made.task_cell(settings=SMALL | {"num_layers": 2})
    found = of_model(trained_on(cell, model), 0, 2)
    calls = own_calls(trained_on(cell, model), 0, 2)
    wanted = [[number for of in FUNCTIONS for number in of(call)] for call in calls]
    assert found == dict(enumerate(wanted))
    assert {"entropy", "change of entropy", "gradient"} <= {what for what, _, _ in found[1]}


def test_what_owns_its_projections_has_no_weights_and_takes_no_place():
    model = build_model(TASK, "flatten_layer", {}, 1)
    cell = made.task_cell("flatten_layer", settings=SMALL)
    with pytest.raises(NoWeights, match="flatten_layer has no weights to look at"):
        own_calls(trained_on(cell, model), 0, 2)
    softmax = trained_on(made.task_cell(settings=SMALL), build_model(TASK, "softmax", {}, 1))
    with pytest.raises(NoWeights, match="flatten_layer has no weights to look at"):
        next(iter(swapped_in(softmax, cell, 1)))


def test_parameters_of_equal_name_and_shape_are_taken_over_through_gates():
    task = build_task("recall", causal_task(num_layers=1))
    softmax, gla, again = (build_model(task, name, {}, i) for i, name in enumerate(NAMES))
    take_over(softmax, gla)
    take_over(gla, again)
    kept = dict(softmax.named_parameters())
    own = dict(gla.named_parameters())
    assert all(torch.equal(own[name], p) for name, p in kept.items() if name in own)
    assert {name for name in kept if "mixer" in name} <= own.keys()
    assert all(torch.equal(kept[name], p) for name, p in again.named_parameters())
    wider = build_model(build_task("recall", causal_task(vocab_size=32)), "softmax", {}, 1)
    take_over(softmax, wider)  # leaves what has another shape


def test_a_mechanism_takes_the_place_with_its_own_settings_and_a_tenth_of_its_own_rate(monkeypatch):
    seen = []
    monkeypatch.setattr(trained, "fit", lambda model, task, *_: seen.append((model, task)))
    cell = made.task_cell(
        "performer",
        settings=SMALL | {"learning_rate": 0.5},
        hyperparameters={"num_features": 3},
    )
    softmax = build_model(TASK, "softmax", {}, 1)
    [*_] = swapped_in(trained_on(made.task_cell(settings=SMALL), softmax), cell, 1)
    ((model, task),) = seen
    assert task.recipe.learning_rate == pytest.approx(0.05)
    assert model.blocks[0].mixer.core.num_features == 3


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
