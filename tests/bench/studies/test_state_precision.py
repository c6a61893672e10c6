"""Roundings of a state, and errors that level off where it forgets."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from attentions.testing.forms import Form, build
from bench.studies import state_precision
from bench.studies.state_precision import DTYPES, rounded, section, state_errors

STEPS = {"float32": 2**-24, "float16": 2**-11, "bfloat16": 2**-8, "float8_e4m3fn": 2**-4}
STEPS |= {"float8_e5m2": 2**-3}


@given(st.lists(st.floats(-400, 400, width=32), min_size=6, max_size=6), st.sampled_from(DTYPES))
def test_a_state_is_rounded_to_the_nearest_number_of_its_dtype(numbers, dtype):
    state = torch.tensor(numbers).view(2, 3)
    kept = rounded(state, dtype)
    if dtype == "int8":  # half a step of the scale of the row
        most = state.abs().amax(dim=-1, keepdim=True) / 254
        most = most.expand_as(state) * 1.001 + 1e-30
    else:
        most = STEPS[dtype] * state.abs() + torch.finfo(getattr(torch, dtype)).smallest_normal
    assert bool(((kept - state).abs() <= most).all())
    assert torch.equal(rounded(kept, dtype), kept) or dtype == "int8"


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d not in ("int8", "float32", "bfloat16")])
def test_a_number_beyond_a_dtype_becomes_its_largest(dtype):
    most = torch.finfo(getattr(torch, dtype)).max
    assert rounded(torch.tensor([1e30, -1e30]), dtype).tolist() == [most, -most]


def errors(name, seq_len=512):
    torch.manual_seed(0)
    form = Form(name=name, causal=True)
    return state_errors(build(form, num_heads=1, seq_len=seq_len, head_dim=16, value_dim=16))


@pytest.fixture(scope="module")
def found():
    return {name: errors(name) for name in ("linear_unnormalised", "simple_gla")}


def test_an_error_grows_without_a_decay_and_levels_off_with_one(found):
    for dtype in ("float16", "bfloat16", "int8"):
        grows, level = (found["linear_unnormalised"]["none"], found["simple_gla"]["1/16"])
        assert grows[dtype][512] > 1.7 * grows[dtype][128]  # 2 in the limit
        assert level[dtype][512] < 1.2 * level[dtype][128]
    last = [found["simple_gla"]["1/16"][dtype][512] for dtype in DTYPES]
    assert last == sorted(last)  # in the order of their precision here


def test_the_page_says_where_errors_grow_and_where_a_state_is_not_finite(found):
    found["simple_gla"]["1/1024"]["int8"][512] = None
    page = section(found, "numerics/picture.svg", "attnbench verify numerics=true")
    (line,) = [line for line in page.splitlines() if line.startswith("- int8: ")]
    assert "linear_unnormalised (×" in line and "simple_gla at 1/1024 (not finite)" in line
    assert "simple_gla at 1/16" not in line and "![" in page
    assert state_precision.chart(found).spec["vconcat"]
