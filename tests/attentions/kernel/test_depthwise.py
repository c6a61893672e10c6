"""The depthwise convolution's backward pass by hand, against torch's."""

import pytest
import torch
from torch.nn import functional

from attentions.kernel import convolve_grid, depthwise


def tensors(grid=(7, 6), channels=3, size=5, batch_size=2):
    tokens = torch.randn(batch_size, grid[0] * grid[1], channels, dtype=torch.float64)
    weight = torch.randn(channels, 1, size, size, dtype=torch.float64)
    bias = torch.randn(channels, dtype=torch.float64)
    return [x.requires_grad_() for x in (tokens, weight, bias)]


def torchs_own(tokens, grid, weight, bias):
    image = tokens.transpose(1, 2).unflatten(2, grid)
    out = functional.conv2d(
        image, weight, bias, padding=weight.shape[-1] // 2, groups=image.shape[1]
    )
    return out.flatten(2).transpose(1, 2)


@pytest.mark.parametrize("elements", [1, 20, 10**6])
@pytest.mark.parametrize(
    ("grid", "size"), [((7, 6), 1), ((7, 6), 5), ((1, 9), 3), ((9, 1), 3), ((2, 2), 5)]
)
def test_output_and_gradients_are_those_of_torch(grid, size, elements, monkeypatch):
    monkeypatch.setattr(depthwise, "_ELEMENTS", elements)
    tokens, weight, bias = inputs = tensors(grid=grid, size=size)
    results = []
    for convolve in (convolve_grid, torchs_own):
        out = convolve(tokens, grid, weight, bias)
        cotangent = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
        results.append([out, *torch.autograd.grad(out, inputs, cotangent)])
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("then", [False, True])
def test_under_autocast_it_is_torchs_and_gradients_taken_there_are_not_rounded(then):
    tokens, weight, bias = inputs = [x.detach().float().requires_grad_() for x in tensors()]
    results = []
    for convolve in (convolve_grid, torchs_own):
        with torch.autocast("cpu", torch.bfloat16, enabled=not then):
            out = convolve(tokens, (7, 6), weight, bias)
        cotangent = torch.linspace(-1, 1, out.numel()).view_as(out).to(out.dtype)
        with torch.autocast("cpu", torch.bfloat16, enabled=then and convolve is convolve_grid):
            results.append([out, *torch.autograd.grad(out, inputs, cotangent)])
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want)


def test_gradients_of_gradients_are_those_of_finite_differences():
    def convolve(tokens, weight, bias):
        return convolve_grid(tokens, (3, 4), weight, bias)

    inputs = tensors(grid=(3, 4), channels=2, size=3, batch_size=1)
    assert torch.autograd.gradgradcheck(convolve, inputs, fast_mode=True)
    bias = inputs[2].detach()
    assert torch.autograd.gradgradcheck(
        lambda *two: convolve(*two, bias), inputs[:2], fast_mode=True
    )
