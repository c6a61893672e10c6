"""Longer examples: the same weights read them; and what a model keeps to go on."""

import pytest

from bench.measuring.tasks.base import build_task
from bench.measuring.tasks.longer import state_bytes
from bench.measuring.tasks.train import train

QUICK = {"num_steps": 4, "batch_size": 8, "embed_dim": 16, "num_heads": 2, "num_test_examples": 32}


@pytest.mark.parametrize("position", ["none", "rope"])
def test_a_model_without_learned_positions_is_tested_at_two_and_four_times_its_length(
    cell, position
):
    quality = train(cell("softmax", "recall", seq_len=24, position=position, **QUICK))
    assert list(quality.longer) == ["48", "96"]
    assert all(0 <= score <= 1 for score in quality.longer.values())


def test_what_has_weights_for_each_place_is_not(cell):
    assert train(cell("softmax", "recall", seq_len=24, **QUICK)).longer == {}
    assert train(cell("linformer", "recall", seq_len=24, position="none", **QUICK)).longer == {}
    assert train(cell("softmax", "tile_recall", position="none", **QUICK)).longer == {}


def test_a_causal_model_keeps_all_tokens_or_one_matrix_per_head(cell):
    def of(mechanism, **settings):
        task = build_task("recall", settings)
        return state_bytes(task, cell(mechanism, "recall"), None)

    # 2 layers of 4 heads of 16: 64 keys and values, or 16 x 16 and their sum; 4 bytes each.
    assert of("softmax", causal=True) == 2 * 4 * 64 * (16 + 16) * 4
    assert of("linear", causal=True) == 2 * 4 * (16 * 16 + 16) * 4
    assert of("linear") is None and of("flatten", causal=True) is None


@pytest.mark.parametrize("name", ["mamba2_ssd_layer", "gated_deltanet_layer", "gla_layer"])
def test_a_layer_keeps_the_state_of_its_core_and_the_tokens_of_its_convolution(cell, name):
    task = build_task("recall", {"causal": True})
    # Of 4 heads: a matrix of 16 x 16, in GLA's layer of 8 x 16; 3 tokens of the convolution.
    numbers = {
        "mamba2_ssd_layer": 4 * 16 * 16 + 3 * (64 + 16 + 16),
        "gated_deltanet_layer": 4 * 16 * 16 + 3 * 3 * 64,
        "gla_layer": 4 * 8 * 16,
    }
    assert state_bytes(task, cell(name, "recall"), None) == 2 * numbers[name] * 4


def test_a_hybrid_keeps_the_states_of_its_softmax_layers_too(cell):
    def kept(mechanism, num):
        task = build_task("recall", {"causal": True, "num_layers": 4, "softmax_layers": num})
        return state_bytes(task, cell(mechanism, "recall"), None)

    assert kept("linear", 1) == 3 * kept("linear", 0) // 4 + kept("softmax", 0) // 4
    assert kept("linear", 4) == kept("softmax", 0)
