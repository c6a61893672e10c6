"""A model whose keys all lie at the floor is told from one whose keys differ, and from others."""

import pytest
import torch

from bench.measuring.tasks.base import Split, build_task
from bench.measuring.tasks.collapse import has_collapsed
from bench.measuring.tasks.model import build_model
from bench.measuring.tasks.train import train


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


def test_keys_of_ordinary_size_are_far_from_the_floor(task, batch):
    assert has_collapsed(build_model(task, "performer", {}, 0), batch) is False


@pytest.mark.parametrize("layer", [0, 1])
def test_one_layer_of_long_keys_is_a_collapse(task, batch, layer):
    net = with_keys(build_model(task, "performer", {}, 0), layer, 40)
    assert has_collapsed(net, batch) is True


def test_a_mechanism_without_a_floor_cannot_collapse(task, batch):
    net = with_keys(build_model(task, "softmax", {}, 0), 0, 40)
    assert has_collapsed(net, batch) is None


def test_sparse_features_are_no_collapse(task, batch):
    settings = {"kernel": "relu_unprojected", "num_features": None}
    net = with_keys(build_model(task, "performer", settings, 0), 0, 40)
    assert has_collapsed(net, batch) is None


def test_looking_leaves_nothing_behind(task, batch):
    net = build_model(task, "performer", {}, 0).eval()
    before = net(batch.inputs, batch.positions)
    has_collapsed(net, batch)
    assert torch.equal(net(batch.inputs, batch.positions), before)
    assert not any(module._forward_pre_hooks for module in net.modules())


@pytest.mark.parametrize(("mechanism", "expected"), [("performer", False), ("linear", None)])
def test_the_result_of_training_says_so(cell, mechanism, expected):
    quick = {"num_steps": 2, "batch_size": 4, "embed_dim": 16, "num_heads": 2}
    assert train(cell(mechanism, "recall", **quick)).collapsed is expected
