"""Methods and scores by hand, and on a model of which it is known what it looks at."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bench.measuring.tasks.base import Batch
from bench.studies.explain.methods import (
    NAMES,
    Layer,
    curves,
    located,
    over_images,
    over_models,
    relevance,
)

HALF = torch.tensor([[0.5, 0.5], [0.0, 1.0]])


def layer(weights, *, weights_grad=None, tokens_grad=None):
    weights = torch.as_tensor(weights)[None, None]
    tokens = torch.ones(1, weights.shape[-1], 3)
    grad = torch.zeros(weights.shape[-1]) if tokens_grad is None else torch.tensor(tokens_grad)
    return Layer(
        weights=weights,
        weights_grad=torch.ones_like(weights) if weights_grad is None else weights_grad[None, None],
        tokens=tokens,
        tokens_grad=grad[None, :, None].expand_as(tokens),
    )


def of(name, layers, identity="after_prior", *, class_token=True):
    stream = torch.Generator().manual_seed(0)
    found = relevance(name, layers, identity, class_token=class_token, stream=stream)
    return found[0].tolist()


def test_rollout_multiplies_layers_with_half_of_the_identity():
    # Each layer is [[.75, .25], [0, 1]]; its square has the first row [.5625, .4375].
    assert of("rollout", [layer(HALF)] * 2) == [0.5625, 0.4375]
    assert of("rollout", [layer(HALF)] * 2, class_token=False) == pytest.approx(
        [0.28125, (0.4375 + 1) / 2]
    )


def test_relevance_flows_from_the_last_layer_to_the_first():
    other = layer([[0.0, 1.0], [1.0, 0.0]])  # with the identity, all are 0.5
    assert of("rollout", [layer(HALF), other]) == [0.375, 0.625]
    assert of("rollout", [other, layer(HALF)]) == [0.5, 0.5]


def test_rollout_looks_at_no_class_and_negative_weights_count_as_none():
    grad = torch.tensor([[0.0, -1.0], [2.0, 1.0]])
    assert of("rollout", [layer(HALF, weights_grad=grad)]) == of("rollout", [layer(HALF)])
    assert of("rollout", [layer([[1.0, -3.0], [0.0, 1.0]])]) == [1, 0]


def test_attention_that_lowers_the_logit_is_left_out_of_gradient_rollout():
    grad = torch.tensor([[1.0, -1.0], [1.0, 1.0]])
    assert of("attention_gradient_rollout", [layer(HALF, weights_grad=grad)]) == [1, 0]
    # Where nothing raises it, the identity is what is left.
    assert of("attention_gradient_rollout", [layer(HALF, weights_grad=-torch.ones(2, 2))]) == [1, 0]


def test_a_head_that_lowers_the_logit_takes_nothing_from_one_that_raises_it():
    raises, lowers = torch.ones(2, 2), -torch.ones(2, 2)
    one = layer(HALF, weights_grad=raises)
    both = replace(
        one,
        weights=torch.stack([HALF, HALF])[None],
        weights_grad=torch.stack([raises, 2 * lowers])[None],
    )
    # The rows of relevance are normalised: half of it in all places is the same.
    found = of("attention_gradient_rollout", [both])
    assert found == of("attention_gradient_rollout", [one]) == [0.75, 0.25]


def test_a_prior_on_one_token_moves_relevance_there():
    assert of("decision_aware", [layer(HALF, tokens_grad=[0.0, 1.0])]) == [0.5, 0.5]
    assert of("decision_aware", [layer(HALF, tokens_grad=[1.0, 0.0])]) == [1, 0]


def test_what_the_text_leaves_open_changes_the_result():
    one = layer(HALF, tokens_grad=[1.0, 0.1])
    before = of("decision_aware", [one], "before_prior")
    assert before == pytest.approx([0.75 / 0.775, 0.025 / 0.775])
    assert before != pytest.approx(of("decision_aware", [one]))


@pytest.mark.parametrize("name", NAMES)
def test_every_method_gives_a_number_of_0_or_more_for_each_token(name):
    assert len(of(name, [layer(HALF)] * 3)) == 2
    assert min(of(name, [layer(HALF)] * 3)) >= 0


OWN = torch.tensor([[True, False, False, False]])
BOTH = torch.tensor([[True, True, False, False]])


def test_where_relevance_lies():
    found = located(torch.tensor([[0.3, 0.1, 0.6, 0.0]]), OWN, BOTH)
    assert found["pointing"].tolist() == [0]
    assert found["mass"].tolist() == pytest.approx([0.3])
    assert found["own"].tolist() == pytest.approx([0.75])
    assert located(torch.tensor([[0.7, 0.1, 0.2, 0.0]]), OWN, BOTH)["pointing"].tolist() == [1]


def test_without_another_digit_there_is_none_to_be_told_from():
    assert located(torch.ones(1, 4), OWN, OWN)["own"].isnan().all()
    assert located(torch.tensor([[0.0, 0.0, 1.0, 0.0]]), OWN, BOTH)["own"].isnan().all()


class LooksAtOne(nn.Module):
    """Answers class 1 as far as its third token is shown."""

    def forward(self, inputs, positions=None):
        seen = inputs[:, 2, 0]
        return torch.stack([-9 * seen, 9 * seen], dim=-1)


def test_the_right_order_inserts_early_and_deletes_early():
    batch = Batch(inputs=torch.ones(1, 9, 1), targets=torch.tensor([1]))
    blank, classes = -torch.ones(1, 9, 1), torch.tensor([1])

    def areas_for(best):
        relevance = torch.linspace(0.1, 0.2, 9)[None].clone()
        relevance[0, 2] = 1.0 if best else 0.0
        found = curves(LooksAtOne(), batch, classes, relevance, blank)
        return {name: points.mean() for name, points in found.items()}

    # Ten shares of nine tokens: the third token is shown in nine of them, or in the last alone.
    assert areas_for(best=True)["insertion"].item() == pytest.approx(0.9, abs=1e-6)
    assert areas_for(best=True)["deletion"].item() == pytest.approx(0.1, abs=1e-6)
    assert areas_for(best=False)["insertion"].item() == pytest.approx(0.1, abs=1e-6)
    assert areas_for(best=False)["deletion"].item() == pytest.approx(0.9, abs=1e-6)


def test_an_interval_over_images_leaves_out_those_without_a_number():
    samples = np.array([0.0, 1.0] * 50 + [math.nan] * 20)
    found = over_images(samples)
    assert found.value == 0.5
    # The standard error of 100 coins is 0.05.
    assert 0.38 < found.low < 0.43 and 0.57 < found.high < 0.62
    assert over_images(np.array([1.0, math.nan])) is None


def test_an_interval_over_models_is_of_their_means_and_of_one_model_over_its_images():
    low, high = np.array([0.1, 0.3, math.nan]), np.array([0.5, 0.7, 0.6])
    found = over_models([low, high])
    # Means .2 and .6, half a difference of .2, Student's t of 12.7.
    assert found.value == pytest.approx(0.4)
    assert found.high - found.value == pytest.approx(12.706 * 0.2, rel=1e-3)
    assert over_models([high]) == over_images(high)
    assert over_models([low, np.array([math.nan])]) is None
