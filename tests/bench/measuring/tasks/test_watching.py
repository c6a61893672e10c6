"""Watching a model changes nothing: its own logits, by weights that carry gradients."""

import pytest
import torch

from bench.measuring.tasks.base import build_task
from bench.measuring.tasks.model import build_model
from bench.measuring.tasks.watching import watched
from bench.measuring.weights import NoWeights
from bench.studies.explain.methods import layers_for

SMALL = {"embed_dim": 16, "num_heads": 2}


@pytest.mark.parametrize("mechanism", ["softmax", "nala", "polaformer"])
def test_the_watched_model_gives_the_logits_that_it_gives_unwatched(mechanism):
    task = build_task("canvas", SMALL | {"num_digits": 2})
    model = build_model(task, mechanism, {}, 0).eval()
    batch = task.test(3).batch
    expected = model(batch.inputs, batch.positions)
    with watched(model) as seen:
        found = model(batch.inputs, batch.positions)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert len(seen.weights) == len(seen.tokens) == 2
    with watched(model) as again:
        pass
    assert torch.equal(model(batch.inputs, batch.positions), expected) and not again.weights


def test_gradients_are_those_of_one_logit_per_example():
    task = build_task("canvas", SMALL | {"num_layers": 1})
    model = build_model(task, "softmax", {}, 0).eval()
    batch, classes = task.test(2).batch, torch.tensor([3, 7])
    (layer,) = layers_for(model, batch, classes)
    assert layer.weights.shape == layer.weights_grad.shape == (2, 2, 37, 37)
    # Only the class token's answer is read, so only its row of the last weights matters.
    assert layer.weights_grad[:, :, 0].abs().sum() > 0
    assert not layer.weights_grad[:, :, 1:].any()
    other = layers_for(model, batch, torch.tensor([3, 8]))[0]
    assert torch.allclose(other.weights_grad[0], layer.weights_grad[0])
    assert not torch.allclose(other.weights_grad[1], layer.weights_grad[1])
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("mechanism", ["inline_layer", "nala_layer"])
def test_a_mechanism_that_owns_its_projections_has_no_weights(mechanism):
    task = build_task("canvas", SMALL | {"class_token": False})
    model = build_model(task, mechanism, {}, 0).eval()
    with pytest.raises(NoWeights, match="it owns its projections"):
        layers_for(model, task.test(1).batch, torch.tensor([0]))
