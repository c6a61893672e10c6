"""The short causal convolution of recurrent layers: each channel mixes its last few tokens."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


def short_convolution(channels: int, width: int, *, bias: bool) -> nn.Conv1d | None:
    """One kernel per channel over ``width`` tokens, the newest last; None for a width of 0."""
    if width == 0:
        return None
    return nn.Conv1d(channels, channels, width, groups=channels, bias=bias)


def convolve_tokens(x: Tensor, conv: nn.Conv1d | None) -> Tensor:
    """(B, N, C) -> (B, N, C), with zeros before the first token; x itself without a convolution."""
    if conv is None:
        return x
    padded = functional.pad(x.transpose(1, 2), (conv.kernel_size[0] - 1, 0))
    return conv(padded).transpose(1, 2)  # type: ignore[no-any-return]


def reference_convolve_tokens(x: Tensor, conv: nn.Conv1d | None) -> Tensor:
    """The same, as a sum of shifted copies."""
    if conv is None:
        return x
    length, total = x.shape[1], x.new_zeros(())
    kernel = conv.weight[:, 0]  # (C, width)
    for age in range(conv.kernel_size[0]):
        shifted = functional.pad(x, (0, 0, age, 0))[:, :length]
        total = total + shifted * kernel[:, -1 - age]
    return total if conv.bias is None else total + conv.bias


def convolution_flops(tokens: int, conv: nn.Conv1d | None) -> int:
    """2 per weight and token."""
    return 0 if conv is None else 2 * tokens * conv.weight.numel()


def convolution_state_size(conv: nn.Conv1d | None) -> int:
    """Numbers that it needs of the tokens before the next one."""
    return 0 if conv is None else (conv.kernel_size[0] - 1) * conv.in_channels
