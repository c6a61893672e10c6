"""The short causal convolution of recurrent layers: each channel mixes its last few tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def short_convolution(channels: int, width: int, *, bias: bool) -> nn.Conv1d | None:
    """One kernel per channel over ``width`` tokens, the newest last; None for a width of 0."""
    if width == 0:
        return None
    return nn.Conv1d(channels, channels, width, groups=channels, bias=bias)


def convolve_tokens(
    x: Tensor, conv: nn.Conv1d, tail: Tensor | None = None, key_mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Convolve the next tokens, (B, T, C), after a tail, and give the tail of those after them.

    Hidden tokens are as good as removed: kept ones are convolved as if they stood next to each
    other. The output of a hidden token is of no use.

    Args:
        x: (B, T, C).
        conv: the kernels, of some width W.
        tail: the W - 1 kept tokens before them, (B, W - 1, C); zeros if None.
        key_mask: (B, T), True for each token that is kept.
    """
    before = conv.kernel_size[0] - 1
    tail = x.new_zeros(len(x), before, x.shape[2]) if tail is None else tail
    if key_mask is None:
        tokens = torch.cat((tail, x), dim=1)
        return conv(tokens.mT).mT, tokens[:, tokens.shape[1] - before :]
    order = kept_first(key_mask)
    tokens = torch.cat((tail, at_places(x, order)), dim=1)
    ends = key_mask.sum(dim=1, keepdim=True) + torch.arange(before, device=x.device)
    return at_places(conv(tokens.mT).mT, order.argsort(dim=1)), at_places(tokens, ends)


def kept_first(key_mask: Tensor) -> Tensor:
    """Order that puts kept tokens before hidden ones, (B, T)."""
    return key_mask.int().argsort(dim=1, descending=True, stable=True)


def at_places(x: Tensor, places: Tensor) -> Tensor:
    """Tokens at places, (B, T, C), (B, S) -> (B, S, C)."""
    return x.take_along_dim(places.unsqueeze(-1), dim=1)


def reference_convolve_tokens(x: Tensor, conv: nn.Conv1d) -> Tensor:
    """The same from no tail, as a sum of shifted copies."""
    length, total = x.shape[1], x.new_zeros(())
    kernel = conv.weight[:, 0]  # (C, width)
    for age in range(conv.kernel_size[0]):
        shifted = functional.pad(x, (0, 0, age, 0))[:, :length]
        total = total + shifted * kernel[:, -1 - age]
    return total if conv.bias is None else total + conv.bias
