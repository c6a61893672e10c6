import pytest
import torch
from torch import nn

from attentions.maths.vision.grid import (
    convolve_on_grid,
    depthwise,
    image_of,
    reference_depthwise,
    tokens_of,
)


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("grid", [(4, 6), (1, 7), (2, 2)])
def test_the_depthwise_convolution_is_a_sum_over_its_taps(kernel_size, grid):
    convolution = depthwise(3, kernel_size).double()
    x = torch.randn(2, grid[0] * grid[1], 3, dtype=torch.float64)
    out = convolve_on_grid(x, convolution, grid)
    assert out.shape == x.shape
    torch.testing.assert_close(out, reference_depthwise(x, convolution, grid))


def test_tokens_lie_row_by_row():
    shift = nn.Conv2d(1, 1, (1, 2), bias=False)
    with torch.no_grad():
        shift.weight.copy_(torch.tensor([[[[0.0, 1.0]]]]))  # the neighbour to the right
    x = torch.arange(6.0).view(1, 6, 1)
    assert convolve_on_grid(x, shift, (2, 3)).flatten().tolist() == [1, 2, 4, 5]


def test_tokens_become_the_image_that_they_were():
    image = torch.randn(2, 5, 3, 4)
    assert tokens_of(image)[:, 1].equal(image[:, :, 0, 1])
    assert image_of(tokens_of(image), (3, 4)).equal(image)
