"""Shapes of inputs, what of a batch is padding, and new values in the same tensors."""

from dataclasses import replace

import pytest
import torch

from bench.measuring import inputs
from bench.measuring.inputs import renew
from tests.bench.core.test_cell import KERNEL

CPU = torch.device("cpu")


def shape(**changes):
    sizes = {"seq_len": 8, "batch_size": 3, "num_heads": 2, "head_dim": 4}
    return replace(KERNEL.kernel, **(sizes | changes))


def make(**changes):
    return inputs.make(shape(**changes), seed=0, dtype=torch.float32, device=CPU)


def test_padding_hides_the_last_keys_of_every_row_and_no_query():
    w = shape(padding=0.25)
    assert inputs.key_mask(w, CPU).tolist() == [[True] * 6 + [False] * 2] * 3
    assert inputs.kept_queries(w, CPU).all() and make(padding=0.25)[3].ne(0).all()


def test_ragged_rows_end_earlier_one_after_the_other_as_keys_and_as_queries():
    w = shape(ragged=0.5)
    assert inputs.key_mask(w, CPU).sum(-1).tolist() == [8, 6, 4]
    assert inputs.kept_queries(w, CPU)[:, 0, :, 0].tolist() == inputs.key_mask(w, CPU).tolist()
    cotangent = make(ragged=0.5)[3]
    assert cotangent[2, :, 4:].eq(0).all() and cotangent[2, :, :4].ne(0).all()


@pytest.fixture
def tensor():
    return torch.zeros(2, 3, 50, 8)


def test_new_values_lie_where_the_old_ones_lay_and_each_is_another(tensor):
    address = tensor.data_ptr()
    renew(tensor, 0, 0)
    seen = [tensor.clone()]
    for number in range(1, 40):
        renew(tensor, number, 0)
        assert all(bool((tensor != earlier).all()) for earlier in seen)
        seen.append(tensor.clone())
    assert tensor.data_ptr() == address


def test_they_are_unit_normal_and_those_of_two_inputs_of_a_call_have_nothing_in_common():
    q, k = torch.zeros(4, 4, 64, 32), torch.zeros(4, 4, 64, 32)
    renew(q, 3, 0)
    renew(k, 3, 1)
    assert float(q.mean()) == pytest.approx(0, abs=0.02)
    assert float(q.std()) == pytest.approx(1, abs=0.02)
    assert abs(float((q * k).mean())) < 0.02


def test_the_same_number_gives_the_same_values_whatever_the_strides(tensor):
    other = torch.zeros(2, 50, 3, 8).transpose(1, 2)
    renew(tensor, 5, 2)
    renew(other, 5, 2)
    assert torch.equal(tensor, other) and not other.is_contiguous()
