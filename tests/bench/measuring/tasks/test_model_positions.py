"""Position signals: learned, rotary or none; the rest of the model stays the same."""

import pytest
import torch

from bench.measuring.tasks.base import build_task
from bench.measuring.tasks.model import build_model

POSITIONS = ("learned", "rope", "none")


def model(mechanism, **settings):
    return build_model(build_task("recall", {"conv_width": 0} | settings), mechanism, {}, 0)


def outputs(net, tokens):
    return net(tokens, torch.arange(tokens.shape[1]).expand_as(tokens))


@pytest.mark.parametrize("mechanism", ["softmax", "linear"])
@pytest.mark.parametrize("position", POSITIONS)
def test_only_without_positions_is_the_order_of_tokens_nothing(mechanism, position):
    net = model(mechanism, position=position)
    tokens = torch.randint(1, 64, (1, 64))
    tokens[0, :2] = torch.tensor([3, 5])
    order = torch.arange(64).roll(1)
    before, after = outputs(net, tokens)[:, order], outputs(net, tokens[:, order])
    assert torch.allclose(before, after, atol=1e-5) == (position == "none")


@pytest.mark.parametrize("mechanism", ["softmax", "gla"])
def test_what_knows_no_places_takes_longer_sequences(mechanism):
    longer = torch.randint(1, 64, (1, 100))
    for position in ("rope", "none"):
        net = model(mechanism, position=position, causal=True)
        assert outputs(net, longer).shape == (1, 100, 64)


def test_a_layer_that_owns_its_projections_takes_no_rotary_positions():
    with pytest.raises(ValueError, match="gla_layer owns its projections, so position=rope"):
        model("gla_layer", position="rope", causal=True)
