import pytest
import torch
from torch.nn import functional

from attentions.maths.feature_maps import (
    direction,
    elu_plus_one,
    log2_size,
    power_slope,
)


def test_elu_plus_one_is_torchs_elu_and_one_with_its_gradient():
    x = torch.tensor([-30.0, -1.0, 0.0, 0.5, 4.0], dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(elu_plus_one(x), functional.elu(x) + 1)
    got = torch.autograd.grad(elu_plus_one(x).sum(), x)[0]
    torch.testing.assert_close(got, torch.autograd.grad((functional.elu(x) + 1).sum(), x)[0])


def test_elu_plus_one_is_exact_where_adding_one_would_round_to_nothing():
    x = torch.tensor([-20.0])
    torch.testing.assert_close(elu_plus_one(x), x.exp(), rtol=1e-6, atol=0)
    assert functional.elu(x) + 1 == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_direction_of_zero_is_zero_with_gradient_zero_after_a_power(dtype):
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]], dtype=dtype, requires_grad=True)
    d, norm = direction(x)
    torch.testing.assert_close(d, torch.tensor([[0.0, 0.0], [0.6, 0.8]], dtype=dtype))
    assert norm[1] == 5
    gradient = torch.autograd.grad(d.abs().pow(1.5 + norm.tanh()).sum(), x)[0]
    assert gradient.isfinite().all()
    assert gradient[0].eq(0).all()


@pytest.mark.parametrize("power", [1.0, 2.5, 3.0])
def test_a_slope_times_x_is_the_signed_power_and_finite_at_zero(power):
    x = torch.tensor([-2.0, 0.0, 0.5], dtype=torch.float64, requires_grad=True)
    signed = x * power_slope(x, power)
    torch.testing.assert_close(signed, x.sign() * x.abs() ** power)
    (gradient,) = torch.autograd.grad(signed.sum(), x)
    torch.testing.assert_close(gradient, power * x.detach().abs() ** (power - 1))
    assert log2_size(x).isfinite().all()
