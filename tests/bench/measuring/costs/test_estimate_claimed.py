from types import SimpleNamespace

import numpy as np
import pytest

from bench.measuring.costs.estimate import claimed_flops, flops_of
from bench.measuring.subject import Subject
from tests.bench.measuring.test_subject import cell


def flops(**shape):
    subject = Subject(cell("softmax", **shape))
    return flops_of(subject.module, subject.cell.kernel)


def test_flops_are_those_of_visible_pairs_and_what_is_executed_is_all():
    def both(**shape):
        return flops(batch_size=3, **shape)

    pair = 2 * 2 * (8 + 8)  # of two heads
    assert both() == (pair * 3 * 12 * 12,) * 2
    assert both(padding=0.25) == (pair * 3 * 12 * 9, pair * 3 * 12 * 12)
    assert both(key_len=20)[0] == pair * 3 * 12 * 20
    assert both(ragged=0.5) == (pair * (12 * 12 + 9 * 9 + 6 * 6), pair * 3 * 12 * 12)
    assert both(ragged=0.5, causal=True)[0] == pair * (12 * 13 + 9 * 10 + 6 * 7) // 2


def test_flops_of_a_decoded_token_are_those_of_one_query_and_not_of_a_whole_pass():
    pair = 2 * 2 * (8 + 8)
    assert flops(mode="decode", causal=True) == (pair * 12,) * 2
    assert flops(mode="prefill", causal=True)[0] == pair * 12 * 13 // 2


def claimed(value):
    return claimed_flops(SimpleNamespace(decode_flops=lambda shape: value), "decode_flops", None)


@pytest.mark.parametrize("value", [0, 7, 7.0, np.int64(7), 2**70])
def test_a_count_is_taken_as_a_whole_number(value):
    assert claimed(value) == value and type(claimed(value)) is int


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, -1, "few", 1.5, 10**400, 1j])
def test_what_is_no_count_is_refused_with_the_name_of_the_formula(value):
    with pytest.raises(ValueError, match=r"decode_flops\(\) gives .*; FLOPs are a whole number"):
        claimed(value)
