"""BaseConv: a gated convolution, the simplest that Zoology compares attention with."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..base import AttentionLayer, CallShape, Geometry
from ..capabilities import RECURRENT_LAYER
from ..checks import whole
from ..maths.short_convolution import (
    at_places,
    convolve_tokens,
    kept_first,
    reference_convolve_tokens,
    short_convolution,
)
from ..precision import float16_in_float32
from ..registry import register_attention

_WIDTH = 16
"""Channels of the network that gives the long kernel."""


@register_attention(
    "base_conv",
    title="BaseConv",
    source="Arora et al., 2023, arXiv:2312.04927",
    family="convolution",
    capabilities=RECURRENT_LAYER,
)
class BaseConv(AttentionLayer):
    """A causal convolution of each channel, times a projection of the token, plus the token.

        out = x + conv(x) * (W x + b)

    The kernel is learned; that of all tokens is a function of their age t, counted in lengths of
    the geometry's sequence: 1 at age 0, plus exp(-d t) net(t, cos wt, -sin wt).

    Hazards:
        - The output grows as the square of the tokens' norm: float32 overflows at norms of 1e19.
        - Ages beyond the geometry's length get weights that no training has shaped.

    Differences:
        - The authors' long convolution runs by FFT; here every product is taken.

    Args:
        geometry: the shape to build for; causal.
        kernel_size: tokens that the convolution sees, this one among them; 0 for all.
    """

    def __init__(self, geometry: Geometry, kernel_size: int = 0) -> None:
        super().__init__(geometry)
        channels = geometry.embed_dim
        self.proj = nn.Linear(channels, channels)
        size = whole(self.name, "kernel_size", kernel_size, 0)
        self.conv = short_convolution(channels, size, bias=True)
        if size:
            return
        widths = (3, _WIDTH, _WIDTH, _WIDTH)
        self.net = nn.ModuleList(map(nn.Linear, widths, widths[1:]))
        self.last = nn.Linear(_WIDTH, channels, bias=False)
        self.frequency = nn.Parameter(torch.ones(_WIDTH))
        self.register_buffer("decay", math.log(100) * torch.linspace(1 / 1.5, 1 / 0.3, channels))

    def kernel(self, length: int) -> Tensor:
        """(C, length), the weight of each age, that of the token itself first."""
        age = torch.arange(length, device=self.frequency.device, dtype=self.frequency.dtype)
        t = (age / max(1, self.geometry.seq_len - 1)).unsqueeze(1)
        turn = 2e-4 * math.pi / self.geometry.seq_len * age.unsqueeze(1)
        hidden = torch.cat([t, turn.cos(), -turn.sin()], dim=-1)
        for linear in self.net:
            hidden = (self.frequency * linear(hidden)).sin()
        taps = self.last(hidden) * (-t * self.decay).exp()  # type: ignore[operator]
        return (taps.T + (age == 0)).to(taps.dtype)  # type: ignore[no-any-return]

    @float16_in_float32
    def forward(self, x: Tensor, *, key_mask: Tensor | None = None) -> Tensor:
        """(B, N, C) -> (B, N, C); hidden tokens are as good as removed."""
        return self._next(x, None, key_mask)[0]

    def init_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> Tensor:
        """The tokens that the kernel sees before the next one, none or zeros at first."""
        before = 0 if self.conv is None else self.conv.kernel_size[0] - 1
        return torch.zeros(batch_size, before, self.geometry.embed_dim, dtype=dtype, device=device)

    def step(
        self, x: Tensor, state: Tensor, *, key_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The next T tokens: (B, T, C), state -> (B, T, C), state; the long kernel's state grows.

        Raises:
            ValueError: a mask with the long kernel, which keeps as many tokens of each row.
        """
        if key_mask is not None and self.conv is None:
            raise ValueError(f"{self.name}: key_mask was given to a step; kernel_size is needed.")
        return self._next(x, state, key_mask)

    def _next(
        self, x: Tensor, tail: Tensor | None, key_mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        if self.conv is not None:
            near, tail = convolve_tokens(x, self.conv, tail, key_mask)
            return x + near * self.proj(x), tail
        tokens = x if tail is None else torch.cat((tail, x), dim=1)
        order = None if key_mask is None else kept_first(key_mask)
        ordered = tokens if order is None else at_places(tokens, order)
        taps = self.kernel(tokens.shape[1])
        padded = functional.pad(ordered.transpose(1, 2), (x.shape[1] - 1, 0))
        near = functional.conv1d(padded, taps.flip(1).unsqueeze(1), groups=len(taps)).mT
        near = near if order is None else at_places(near, order.argsort(dim=1))
        return x + near * self.proj(x), tokens

    def reference(self, x: Tensor) -> Tensor:
        """Age by age."""
        if self.conv is not None:
            return x + reference_convolve_tokens(x, self.conv) * self.proj(x)  # type: ignore[no-any-return]
        near = torch.zeros_like(x)
        for age, taps in enumerate(self.kernel(x.shape[1]).T):
            near = near + functional.pad(x, (0, 0, age, 0))[:, : x.shape[1]] * taps
        return x + near * self.proj(x)  # type: ignore[no-any-return]

    def decode_flops(self, shape: CallShape) -> int:
        """Projection of one token, and the whole kernel."""
        return self._flops(shape.batch_size, 1, shape.key_len)

    def flops(self, shape: CallShape) -> int:
        """Projection, kernel and convolution."""
        return self._flops(shape.batch_size, shape.query_len, shape.query_len)

    def _flops(self, batch_size: int, queries: int, n: int) -> int:
        channels = self.geometry.embed_dim
        taps = n if self.conv is None else self.conv.kernel_size[0]
        kernel = 2 * n * _WIDTH * (3 + 2 * _WIDTH + channels) if self.conv is None else 0
        return 2 * batch_size * queries * channels * (channels + taps) + kernel
