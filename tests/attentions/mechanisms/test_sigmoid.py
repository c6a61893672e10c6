from functools import partial

import pytest
import torch

from tests.attentions.calls import built

build = partial(built, "sigmoid", seq_len=7, value_dim=3)


def test_weights_of_small_scores_add_up_to_about_one():
    core = build(seq_len=1000)
    q, v = torch.zeros(1, 2, 1000, 4), torch.ones(1, 2, 1000, 3)
    assert core(q, q, v).flatten().tolist() == pytest.approx([1000 / 1001] * 6000, rel=1e-5)


def test_an_output_beyond_float16_is_its_largest_number():
    q, v = torch.full((1, 2, 7, 4), 9.0), torch.full((1, 2, 7, 3), 3e4)
    out = build(bias=0.0)(*(x.half() for x in (q, q, v)))
    assert out.eq(torch.finfo(torch.float16).max).all()
