"""The depthwise convolution's backward pass by hand, against torch's."""

import pytest
import torch
from torch.nn import functional

import attentions._engine_depthwise as depthwise
from attentions import Geometry, build_attention
from attentions._engine_depthwise import convolve_grid, kernel_gradient


def tensors(grid=(7, 6), channels=3, size=5, batch_size=2, dtype=torch.float64):
    tokens = torch.randn(batch_size, *grid, channels, dtype=dtype)
    weight = torch.randn(channels, 1, size, size, dtype=dtype)
    bias = torch.randn(channels, dtype=dtype)
    return [x.requires_grad_() for x in (tokens.permute(0, 3, 1, 2), weight, bias)]


def convolve_channels(image, weight, bias):
    """The same of (B, C, rows, columns)."""
    tokens = image.flatten(2).transpose(1, 2)
    out, _ = convolve_grid(tokens, tuple(image.shape[2:]), weight, bias)
    return out.transpose(1, 2).unflatten(2, image.shape[2:])


def torchs_own(image, weight, bias):
    return functional.conv2d(
        image, weight, bias, padding=weight.shape[-1] // 2, groups=image.shape[1]
    )


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("grid", [(1, 9), (7, 6), (9, 1), (2, 2)])
def test_output_and_gradients_are_those_of_torch(grid, size):
    inputs = tensors(grid=grid, size=size)
    results = []
    for convolve in (convolve_channels, torchs_own):
        out = convolve(*inputs)
        cotangent = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
        results.append([out, *torch.autograd.grad(out, inputs, cotangent)])
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want)


def test_gradients_of_gradients_are_those_of_finite_differences():
    inputs = tensors(grid=(3, 4), channels=2, size=3, batch_size=1)
    assert torch.autograd.gradcheck(convolve_channels, inputs)
    assert torch.autograd.gradgradcheck(convolve_channels, inputs)


def test_a_sum_in_place_needs_no_copies_behind_it():
    image, weight, bias = tensors()
    tokens = image.flatten(2).transpose(1, 2)
    out, _ = convolve_grid(tokens, (7, 6), weight, bias)
    added = out.add_(torch.ones(3, requires_grad=True))
    assert added.grad_fn.name() == "AddBackward0"  # and not that of a view's in-place change
    want = torchs_own(image, weight, bias).flatten(2).transpose(1, 2) + 1
    torch.testing.assert_close(added, want)


def test_gradients_of_the_tokens_it_returns_are_added_to_its_own():
    def both(image, weight, bias):
        tokens = image.flatten(2).transpose(1, 2)
        out, again = convolve_grid(tokens, tuple(image.shape[2:]), weight, bias)
        assert torch.equal(again, tokens)
        return out * again.sin()

    inputs = tensors(grid=(3, 4), channels=2, size=3, batch_size=1)
    assert torch.autograd.gradcheck(both, inputs)
    assert torch.autograd.gradgradcheck(both, inputs)


@pytest.mark.parametrize("elements", [1, 20, 10**6])
def test_the_rows_taken_at_once_change_nothing(monkeypatch, elements):
    image, weight, bias = tensors()
    grad = torch.randn_like(image)
    want = torch.autograd.grad(torchs_own(image, weight, bias), weight, grad)[0]
    monkeypatch.setattr(depthwise, "_ELEMENTS", elements)
    torch.testing.assert_close(kernel_gradient(image.detach(), grad, 5), want)


@pytest.mark.parametrize("threads", [1, 2])
def test_several_threads_compute_the_same(threads):
    torch.set_num_threads(threads)
    image, weight, bias = tensors(grid=(30, 40), channels=96, dtype=torch.float32)
    out = convolve_channels(image, weight, bias)
    got = torch.autograd.grad(out, weight, torch.ones_like(out))[0]
    wide = [x.detach().double().requires_grad_() for x in (image, weight, bias)]
    out = torchs_own(*wide)
    want = torch.autograd.grad(out, wide[1], torch.ones_like(out))[0]
    torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_layer_that_convolves_has_the_gradients_of_its_plain_form(batch_size):
    geometry = Geometry(num_heads=2, head_dim=4, seq_len=12, grid=(3, 4))
    ours, official = (
        build_attention("flatten_layer", geometry, implementation=implementation).double()
        for implementation in ("auto", "official")
    )
    official.load_state_dict(ours.state_dict())
    x = torch.randn(batch_size, 12, 8, dtype=torch.float64, requires_grad=True)
    results = []
    for layer in (ours, official):
        out = layer(x)
        results.append([out, *torch.autograd.grad(out.square().sum(), [x, *layer.parameters()])])
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want)
