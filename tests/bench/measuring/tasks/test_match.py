"""Models of equal cost: which size is set, how near it comes, and what cannot be had."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import attentions
from bench.measuring.support import why_unbuildable
from bench.measuring.tasks.base import build_task
from bench.measuring.tasks.longer import state_bytes
from bench.measuring.tasks.match import CannotMatch, flops_per_example, matched
from bench.measuring.tasks.model import build_model
from bench.measuring.tasks.train import train


@pytest.fixture
def asked(cell):
    """``asked("gla", "flops", causal=True)``: a cell of recall."""

    def make(mechanism, match, **settings):
        found = cell(mechanism, "recall", match=match, **settings)
        return replace(found, hyperparameters=attentions.hyperparameters(mechanism))

    return make


def costs(found):
    """Parameters, FLOPs and bytes of state."""
    task = build_task("recall", found.task.settings)
    model = build_model(task, found.mechanism, found.hyperparameters, 0)
    num_parameters = sum(p.numel() for p in model.parameters())
    return num_parameters, flops_per_example(task, model.mixers), state_bytes(task, found, None)


@pytest.mark.parametrize(
    ("match", "place", "mechanism"),
    [
        *(("params", 0, name) for name in ("gla", "gated_deltanet", "mamba2_ssd_layer")),
        *(("flops", 1, name) for name in ("linear", "gated_deltanet", "mamba2_ssd_layer")),
    ],
)
def test_mlps_make_up_for_what_a_mechanism_has_more_or_less(asked, match, place, mechanism):
    usual = costs(asked("softmax", "none", causal=True))[place]
    as_it_is = costs(asked(mechanism, "none", causal=True))[place]
    found, words = matched(asked(mechanism, match, causal=True))
    assert as_it_is / usual != pytest.approx(1, abs=0.003)
    assert costs(found)[place] / usual == pytest.approx(1, abs=0.003)
    hidden = build_task("recall", found.task.settings).recipe.mlp_width
    assert words == f"MLP of {hidden}" and hidden != 128


def test_the_formula_of_a_model_is_what_torch_counts(asked):
    found = asked("softmax_explicit", "none", conv_width=0)
    task = build_task("recall", found.task.settings)
    model = build_model(task, found.mechanism, {}, 0)
    counter = FlopCounterMode(display=False)
    with counter:
        x = model.embedding(torch.zeros(1, task.seq_len, dtype=torch.long))
        for block in model.blocks:
            x = block(x)
    assert flops_per_example(task, model.mixers) == counter.get_total_flops()


@pytest.mark.parametrize(
    ("mechanism", "words"),
    [
        ("gla", "embed_dim 64"),
        ("softmax", "embed_dim 8"),  # a cache of 64 keys and values of 2 channels in each head
        ("linear", "embed_dim 60"),
        ("performer", "num_features 14"),
        ("gla_layer", "embed_dim 88"),  # odd widths of a head are not to be had
    ],
)
def test_states_are_of_one_size_within_a_tenth(asked, mechanism, words):
    found, said = matched(asked(mechanism, "state", causal=True))
    assert said == words
    assert costs(found)[2] == pytest.approx(8192, rel=0.1)


def test_what_cannot_be_had_is_a_reason_in_words(asked):
    for cell, words in (
        (asked("performer", "flops"), "match=flops leaves performer no MLP"),
        (asked("taylor", "state", causal=True), "comes no nearer than 9,216 with embed_dim=28"),
        (asked("linear", "state"), "recall is not causal"),
        (asked("gated_deltanet", "params", causal=True, mlp_ratio=0.01), "no MLP"),
    ):
        with pytest.raises(CannotMatch, match=words):
            matched(cell)
        assert words in why_unbuildable(cell)


def test_a_run_says_what_was_set_and_is_tested_longer_at_that_size(asked):
    quick = {"num_steps": 4, "batch_size": 8, "num_test_examples": 32, "seq_len": 24}
    quality = train(asked("gla", "flops", causal=True, position="none", **quick))
    assert quality.matched == "MLP of 108" and list(quality.longer) == ["48", "96"]
    assert quality.flops and quality.state_bytes == 8192
