"""Collapsed keys, a mechanism that sees the future, and what is not finite are told."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from attentions import Attention, Capabilities
from bench.measuring.tasks.base import Split, build_task
from bench.measuring.tasks.faults import first_not_finite, has_collapsed, leaks_future
from bench.measuring.tasks.model import build_model


@pytest.fixture
def task():
    return build_task("recall", {"num_test_examples": 32})


@pytest.fixture
def batch(task):
    return next(task.batches(Split.TEST, 0))


def with_keys(net, layer, factor):
    """Keys of one layer, times a factor: the token after a long one lies far below its maximum."""
    width = net.blocks[layer].mixer.geometry.embed_dim
    with torch.no_grad():
        net.blocks[layer].mixer.qkv.weight[width : 2 * width] *= factor
    return net


SPARSE = {"kernel": "relu_unprojected", "num_features": None}


@pytest.mark.parametrize(
    ("mechanism", "settings", "layer", "factor", "expected"),
    [
        ("performer", {}, 0, 1, False),
        ("performer", {}, 0, 40, True),
        ("performer", {}, 1, 40, True),
        ("softmax", {}, 0, 40, None),  # it has no floor
        ("performer", SPARSE, 0, 40, None),
    ],
)
def test_long_keys_of_one_layer_are_a_collapse_where_features_have_a_floor(
    task, batch, mechanism, settings, layer, factor, expected
):
    net = with_keys(build_model(task, mechanism, settings, 0), layer, factor)
    assert has_collapsed(net, batch) is expected


@pytest.mark.parametrize("mechanism", ["softmax", "linear", "gated_deltanet", "sliding_window"])
def test_what_hides_the_future_does_not_leak(mechanism):
    task = build_task("recall", {"causal": True})
    assert not leaks_future(build_model(task, mechanism, {}, 0), task)


@pytest.mark.parametrize("layers", [["mean"], ["softmax", "mean"]])
@pytest.mark.parametrize("causal", [True, False])
def test_a_mean_over_all_tokens_leaks_where_a_token_may_not_see_them_in_any_layer(
    causal, layers, own_registry
):
    can = Capabilities(causal=True)

    @own_registry.register_attention("mean", title="mean", source="-", capabilities=can)
    class Mean(Attention):
        def forward(self, q: Any, k: Any, v: Any) -> Any:
            return v + 1e-3 * v.mean(dim=-2, keepdim=True)

        def flops(self, shape: Any) -> int:
            return 0

    task = build_task("recall", {"causal": causal})
    model = build_model(task, layers[0], {"layers": [[name, {}] for name in layers]}, 0)
    assert leaks_future(model, task) is causal


class Logarithm(nn.Module):
    def forward(self, x):
        return x.log()


def told(model, x):
    return first_not_finite(model, partial(model, x))


def test_a_parameter_is_named_before_any_output():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with torch.no_grad():
        model[1].weight[0, 0] = torch.inf
    assert told(model, torch.ones(1, 2)) == "the parameter 1.weight is not finite"
    with torch.no_grad():
        model[1].bias[0] = torch.nan
    assert "1.weight and 1 more parameters" in told(model, torch.ones(1, 2))


def test_the_first_module_whose_output_is_not_finite_is_named_and_hooks_are_gone():
    model = nn.Sequential(nn.Identity(), Logarithm(), nn.Identity())
    assert told(model, torch.zeros(1)) == "the output of 1 (Logarithm) is not finite"
    assert not any(module._forward_hooks for module in model.modules())
