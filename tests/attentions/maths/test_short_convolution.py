import pytest
import torch

from attentions.maths.short_convolution import (
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
    torch.testing.assert_close(convolve_tokens(x, conv)[0], expected)
    torch.testing.assert_close(reference_convolve_tokens(x, conv), expected)


def test_a_tail_stands_for_the_tokens_before_and_hidden_ones_are_as_good_as_removed():
    conv, x = short_convolution(5, 3, bias=True).double(), torch.randn(2, 9, 5).double()
    kept = torch.tensor([[1, 0, 1, 1, 0, 1, 1, 1, 0], [0, 1, 1, 1, 1, 0, 0, 1, 1]]).bool()
    alone = conv(torch.nn.functional.pad(x[kept].unflatten(0, (2, 6)).mT, (2, 0))).mT
    tail, outputs = None, []
    for part in (slice(0, 2), slice(2, 3), slice(3, 9)):
        out, tail = convolve_tokens(x[:, part], conv, tail, kept[:, part])
        outputs.append(out)
    torch.testing.assert_close(torch.cat(outputs, dim=1)[kept].unflatten(0, (2, 6)), alone)
    torch.testing.assert_close(tail, x[kept].unflatten(0, (2, 6))[:, -2:])
