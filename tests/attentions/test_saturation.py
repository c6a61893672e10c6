import pytest
import torch
from torch import nn

from attentions._saturation import (
    in_wide_precision_within_range,
    wide_depthwise,
    wide_linear,
    within_range,
)
from attentions.maths.grid import convolve_on_grid, depthwise


def test_what_float16_cannot_hold_becomes_its_largest_number():
    out = within_range(torch.tensor([1e9, -1e9, 2.0]), torch.float16)
    assert out.tolist() == [65504.0, -65504.0, 2.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_wider_ranges_are_left_alone(dtype):
    x = torch.tensor([1e9, -1e9])
    assert torch.equal(within_range(x, dtype), x.to(dtype))


class Square:
    @in_wide_precision_within_range
    def mix(self, q, k, v):
        self.seen = q.dtype
        return q * k * v


def test_half_inputs_are_seen_in_float32_and_come_back_within_range():
    square, x = Square(), torch.full((2,), 300.0, dtype=torch.float16)
    out = square.mix(q=x, k=x, v=x)
    assert square.seen == torch.float32
    assert out.tolist() == [65504.0, 65504.0] and out.dtype == torch.float16


@pytest.mark.parametrize("bias", [True, False])
def test_a_wide_linear_is_the_layer_with_float32_weights(bias):
    layer, x = nn.Linear(4, 3, bias=bias).half(), torch.randn(2, 5, 4)
    torch.testing.assert_close(wide_linear(x, layer), layer.float()(x))


def test_gradients_of_half_weights_stay_finite():
    layer, x = nn.Linear(4, 3).half(), torch.full((2, 5, 4), 1e6)
    wide_linear(x, layer).sum().backward()
    assert layer.weight.grad.dtype == torch.float16
    assert layer.weight.grad.isfinite().all()


@pytest.mark.parametrize("bias", [True, False])
def test_a_wide_convolution_is_the_layer_with_float32_weights(bias):
    convolution = depthwise(4, 3).half()
    if not bias:
        convolution.bias = None
    x = torch.randn(2, 6, 4)
    wide = wide_depthwise(x, convolution, (2, 3))
    torch.testing.assert_close(wide, convolve_on_grid(x, convolution.float(), (2, 3)))
