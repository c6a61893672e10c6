"""Methods by hand on small matrices: what flows where, and what a class changes."""

from dataclasses import replace

import pytest
import torch

from bench.studies.explain.methods import NAMES, Layer, relevance

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
