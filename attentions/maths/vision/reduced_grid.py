"""Keys and values from a smaller grid, as in pyramid vision transformers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...checks import whole
from .grid import convolve_on_grid


class ReducedGrid(nn.Module):
    """A strided convolution and a LayerNorm: (B, N, C) -> (B, N / r^2, C); nothing for r = 1.

    Args:
        mechanism: for messages.
        channels: C.
        grid: (rows, columns).
        ratio: r; must divide both sides of the grid.

    Raises:
        ValueError: it does not.
    """

    def __init__(self, mechanism: str, channels: int, grid: tuple[int, int], ratio: int) -> None:
        super().__init__()
        self._mechanism = mechanism
        self.grid, self.ratio = grid, whole(mechanism, "sr_ratio", ratio, 1)
        rows, columns = grid
        if rows % ratio or columns % ratio:
            raise ValueError(
                f"{mechanism}: sr_ratio is {ratio}; a divisor of both sides of the "
                f"{rows}x{columns} grid is needed."
            )
        if ratio > 1:
            self.sr = nn.Conv2d(channels, channels, ratio, stride=ratio)
            self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor, key_mask: Tensor | None = None) -> Tensor:
        """(B, N, C) -> (B, N / r^2, C); r must be 1 under a mask."""
        if self.ratio == 1:
            return x
        if key_mask is not None:
            raise ValueError(
                f"{self._mechanism}: key_mask was given, and sr_ratio is {self.ratio}; a key of "
                "several tokens is neither hidden nor kept, so sr_ratio=1 is needed."
            )
        return self.norm(convolve_on_grid(x, self.sr, self.grid))  # type: ignore[no-any-return]

    def reference(self, x: Tensor) -> Tensor:
        """Patch by patch, and the norm written out."""
        if self.ratio == 1:
            return x
        r, image = self.ratio, torch.unflatten(x, 1, self.grid)  # (B, rows, columns, C)
        shrunk = torch.zeros_like(image[:, ::r, ::r])
        for down in range(r):
            for right in range(r):
                kernel = self.sr.weight[:, :, down, right]
                shrunk = shrunk + image[:, down::r, right::r] @ kernel.T
        assert self.sr.bias is not None
        tokens = shrunk.flatten(1, 2) + self.sr.bias
        centred = tokens - tokens.mean(dim=-1, keepdim=True)
        spread = (centred.pow(2).mean(dim=-1, keepdim=True) + self.norm.eps).sqrt()
        return centred / spread * self.norm.weight + self.norm.bias

    def flops(self, num_tokens: int, channels: int) -> int:
        """The convolution: every token is in one patch."""
        return 2 * channels**2 * num_tokens if self.ratio > 1 else 0


def stretch(v: Tensor, seq_len: int) -> Tensor:
    """(B, M, C) -> (B, N, C), linearly along the flattened grid.

    The end of a row blends with the start of the next: that is what the authors' codes do.
    """
    if v.shape[1] == seq_len:
        return v
    return functional.interpolate(v.transpose(1, 2), size=seq_len, mode="linear").transpose(1, 2)


def reference_stretch(v: Tensor, seq_len: int) -> Tensor:
    """Value of a piecewise linear curve through the M tokens, at the centres of N pieces."""
    num_keys = v.shape[1]
    place = (torch.arange(seq_len, dtype=v.dtype, device=v.device) + 0.5) * num_keys / seq_len
    place = (place - 0.5).clamp(0, num_keys - 1)
    left = place.floor().long()
    right = (left + 1).clamp(max=num_keys - 1)
    share = (place - left)[:, None]
    return v[:, left] * (1 - share) + v[:, right] * share
