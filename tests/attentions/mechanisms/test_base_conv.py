"""BaseConv, short and long, against its formula token by token."""

import math
from functools import partial

import pytest
import torch

from tests.attentions.calls import built

layer = partial(built, "base_conv", True, head_dim=3, seq_len=8)


def long_kernel(base_conv, age, seq_len):
    """The weight of a token that is so old, of each channel."""
    t, turn = age / (seq_len - 1), 1e-4 * 2 * math.pi * age / seq_len
    hidden = torch.tensor([t, math.cos(turn), -math.sin(turn)], dtype=torch.float64)
    for linear in base_conv.net:
        hidden = torch.sin(base_conv.frequency * (linear.weight @ hidden + linear.bias))
    rates = torch.linspace(math.log(100) / 1.5, math.log(100) / 0.3, 6, dtype=torch.float64)
    return base_conv.last.weight @ hidden * torch.exp(-t * rates) + float(age == 0)


@pytest.mark.parametrize("kernel_size", [3, 0])
@torch.no_grad()
def test_a_token_is_its_convolution_times_its_projection_and_itself(kernel_size):
    base_conv, x = layer(kernel_size=kernel_size), torch.randn(2, 8, 6, dtype=torch.float64)
    out = base_conv(x)
    for i in range(8):
        near = base_conv.conv.bias.expand(2, 6) if kernel_size else torch.zeros(2, 6)
        for age in range(min(i + 1, kernel_size or 8)):
            if kernel_size:
                taps = base_conv.conv.weight[:, 0, -1 - age]
            else:
                taps = long_kernel(base_conv, age, 8)
            near = near + taps * x[:, i - age]
        expected = x[:, i] + near * (x[:, i] @ base_conv.proj.weight.T + base_conv.proj.bias)
        assert torch.allclose(out[:, i], expected, atol=1e-6)
