import pytest
import torch

from attentions.maths.short_convolution import (
    convolution_flops,
    convolution_state_size,
    convolve_tokens,
    reference_convolve_tokens,
    short_convolution,
)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("length", [1, 3, 9])
def test_a_token_is_mixed_with_the_last_few(width, length, bias):
    conv = short_convolution(5, width, bias=bias).double()
    x = torch.randn(2, length, 5, dtype=torch.float64)
    expected = torch.zeros_like(x)
    for i in range(length):
        for age in range(min(width, i + 1)):
            expected[:, i] += conv.weight[:, 0, width - 1 - age] * x[:, i - age]
        if bias:
            expected[:, i] += conv.bias
    torch.testing.assert_close(convolve_tokens(x, conv), expected)
    torch.testing.assert_close(reference_convolve_tokens(x, conv), expected)


def test_a_width_of_zero_is_no_convolution():
    conv = short_convolution(5, 0, bias=True)
    x = torch.randn(2, 9, 5)
    assert convolve_tokens(x, conv) is x
    assert reference_convolve_tokens(x, conv) is x
    assert convolution_flops(9, conv) == 0


def test_flops_are_two_per_weight_and_token():
    assert convolution_flops(9, short_convolution(5, 4, bias=True)) == 2 * 9 * 5 * 4


def test_the_next_token_needs_all_but_one_of_a_kernels_tokens():
    assert convolution_state_size(short_convolution(5, 4, bias=True)) == 3 * 5
    assert convolution_state_size(None) == 0
