"""The engine's elementary functions, by whichever library."""

import math

import pytest
import torch

from attentions import _engine_functions
from attentions._engine_functions import (
    cos_and_sin_of_eighth_,
    exp_,
    log_,
    log_base,
    mkl_is_faster,
    power_,
)

ULPS = 3
"""More than torch's own are off, in float32."""


def assert_is(found, expected, x):
    assert found.data_ptr() == x.data_ptr()
    torch.testing.assert_close(found.double(), expected, rtol=ULPS * 2**-23, atol=0)


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_functions_are_right_to_some_ulps_and_in_place(size, functions):
    x = 4 * torch.rand(size) + 0.25
    exact = x.double()
    base = math.e if functions == "MKL" else 2.0
    assert_is(power_(x.neg_()), base**-exact, x)
    x = exact.float()
    assert_is(log_(x), exact.log() / math.log(base), x)
    x = exact.float()
    torch.testing.assert_close(exp_(x).double(), exact.exp(), rtol=1e-6, atol=0)
    for number in (2.0, math.e, 10.0):
        assert log_base(number) == pytest.approx(math.log(number, base), rel=1e-15)


def test_cosine_and_sine_within_an_eighth_of_a_turn(functions):
    x = torch.linspace(-math.pi / 4, math.pi / 4, 1001)
    exact = x.double()
    cos, sin = cos_and_sin_of_eighth_(x)
    assert_is(sin, exact.sin(), x)
    torch.testing.assert_close(cos.double(), exact.cos(), rtol=ULPS * 2**-23, atol=0)
    assert cos[500] == 1
    exact = torch.linspace(-math.pi / 4, math.pi / 4, 1001, dtype=torch.float64)
    cos, sin = cos_and_sin_of_eighth_(exact.clone())
    torch.testing.assert_close(sin, exact.sin(), rtol=1e-14, atol=0)
    torch.testing.assert_close(cos, exact.cos(), rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    ("is_intel", "has_mkl", "faster"),
    [(True, True, True), (True, False, False), (False, True, False)],
)
def test_mkl_is_taken_on_intels_processors_only(is_intel, has_mkl, faster, monkeypatch):
    monkeypatch.setattr(_engine_functions, "is_intel", lambda: is_intel)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: has_mkl)
    assert mkl_is_faster.__wrapped__() is faster


def test_bounds_of_exponentials_are_kept(functions):
    x = torch.tensor([-math.inf, -1e6, 0.0])
    assert exp_(x.clone()).tolist() == power_(x.clone()).tolist() == [0.0, 0.0, 1.0]
