"""Shapes of inputs, and what of a batch is padding."""

from dataclasses import replace

import torch

from bench import inputs
from tests.bench.test_cell import KERNEL

CPU = torch.device("cpu")


def shape(**changes):
    sizes = {"seq_len": 8, "batch_size": 3, "num_heads": 2, "head_dim": 4}
    return replace(KERNEL.kernel, **(sizes | changes))


def make(**changes):
    return inputs.make(shape(**changes), seed=0, dtype=torch.float32, device=CPU)


def test_keys_and_values_have_a_length_of_their_own():
    q, k, v, cotangent = make(key_len=5)
    assert q.shape == cotangent.shape == (3, 2, 8, 4)
    assert k.shape == v.shape == (3, 2, 5, 4)


def test_without_padding_there_is_no_mask():
    assert inputs.key_mask(shape(), CPU) is None and inputs.kept_queries(shape(), CPU) is None
    assert make()[3].ne(0).all()


def test_padding_hides_the_last_keys_of_every_row_and_no_query():
    w = shape(padding=0.25)
    assert inputs.key_mask(w, CPU).tolist() == [[True] * 6 + [False] * 2] * 3
    assert inputs.kept_queries(w, CPU).all() and make(padding=0.25)[3].ne(0).all()


def test_padding_of_a_causal_form_is_behind_the_end_of_its_queries_too():
    kept = inputs.kept_queries(shape(padding=0.25, causal=True), CPU)
    assert kept[:, 0, :, 0].tolist() == [[True] * 6 + [False] * 2] * 3


def test_ragged_rows_end_earlier_one_after_the_other_as_keys_and_as_queries():
    w = shape(ragged=0.5)
    assert inputs.key_mask(w, CPU).sum(-1).tolist() == [8, 6, 4]
    assert inputs.kept_queries(w, CPU)[:, 0, :, 0].tolist() == inputs.key_mask(w, CPU).tolist()
    cotangent = make(ragged=0.5)[3]
    assert cotangent[2, :, 4:].eq(0).all() and cotangent[2, :, :4].ne(0).all()
