from dataclasses import replace

import pytest

from bench.measuring.subject import Subject
from bench.studies.catalogue import costs as module
from bench.studies.catalogue.costs import costs, default_cell, needs


@pytest.mark.parametrize(
    ("name", "flops", "memory", "decoding"),
    [
        ("softmax_explicit", "N^2", "N^2", "N"),
        ("linear_unnormalised", "N", "N", "1"),
        ("moba", "N", "N", "N"),  # few blocks of a cache that keeps every token
        ("log_linear", "N", "N", "log N"),
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


@pytest.mark.parametrize(
    ("power", "said"), [(0.0, "1"), (1.0, "N"), (1.04, "N"), (1.5, "N^1.5"), (1.86, "N^1.9")]
)
def test_a_power_that_is_no_whole_number_is_said_with_a_digit(monkeypatch, power, said):
    monkeypatch.setattr(module, "claimed_flops", lambda _, __, shape: shape.seq_len**power)
    monkeypatch.setattr(module, "shape_of", lambda work: work)
    monkeypatch.setattr(module, "peak_bytes_of", lambda cell: 1)
    cost = costs("linear")
    assert (cost.flops_growth, cost.memory_growth) == (said, "1")


@pytest.mark.parametrize("at", [16_384, 65_536])
def test_a_growth_is_unknown_where_one_of_its_lengths_is(monkeypatch, at):
    monkeypatch.setattr(module, "claimed_flops", lambda *_: 1)
    monkeypatch.setattr(
        module, "peak_bytes_of", lambda cell: None if cell.kernel.seq_len == at else 1
    )
    assert costs("softmax").memory_growth is None
