from dataclasses import replace

import pytest

from bench.measuring.subject import Subject
from bench.studies.catalogue.costs import costs, default_cell, needs


@pytest.mark.parametrize(
    ("name", "flops", "memory", "decoding"),
    [
        ("softmax_explicit", "N^2", "N^2", "N"),
        ("linear_unnormalised", "N", "N", "1"),
        ("none", "0", "N", None),  # its output
    ],
)
def test_growth_is_that_of_the_formulas(name, flops, memory, decoding):
    cost = costs(name)
    assert (cost.flops_growth, cost.memory_growth, cost.decode_growth) == (flops, memory, decoding)


def test_flops_are_those_of_one_call_at_the_stated_shape():
    # 2 products of N x N x D for 8 heads, 2 FLOPs per multiply-add.
    assert costs("softmax").flops == 8 * 2 * 2 * 4096 * 4096 * 64


@pytest.mark.parametrize("name", ["softmax", "linear", "retnet", "sliding_window", "mla"])
def test_the_state_that_is_needed_is_the_one_that_a_decode_keeps(name):
    needed = needs(name, 300)
    w = replace(needed.workload, mode="decode", causal=True)
    kept = Subject(replace(default_cell(name, 300), workload=w))
    assert needed.state_bytes == kept.state_bytes()
    assert needed.num_parameters == sum(p.numel() for p in kept.parameters)


def test_what_is_needed_is_that_of_one_length():
    needed = needs("softmax", 1000)
    assert needed.flops == 8 * 2 * 2 * 1000 * 1000 * 64
    assert needs("nala", 1000).state_bytes is None
    assert needs("linformer", 2000).num_parameters == 2 * needs("linformer", 1000).num_parameters
