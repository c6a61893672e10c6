"""A control: only the depthwise convolution of v that several mechanisms add."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..base import Attention, CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import fills_grid, odd_width, one_of
from ..precision import in_wide_precision, widen
from ..registry import register_attention


@register_attention(
    "local_only",
    title="Local only (depthwise convolution of the values)",
    source="control",
    family="control",
    capabilities=Capabilities(needs_grid=True, position_free=False),
)
class LocalOnly(Attention):
    """Each channel of v is convolved with a learned kernel and a bias of its own; no attention.

        out = dwc(v) + b

    FLatten, PolaFormer and NaLa add such a convolution to their output. What this reaches alone is
    no gain of theirs.

    Hazards:
        - Queries and keys are not read, so they have no gradient.

    Args:
        geometry: the shape to build for.
        dims: 2 for kernels on the grid, 1 for kernels along the tokens, which need no grid.
        kernel_size: width of the kernels, odd.
    """

    def __init__(self, geometry: Geometry, dims: int = 2, kernel_size: int = 5) -> None:
        super().__init__(geometry)
        self.dims = one_of(self.name, "dims", dims, (2, 1))
        self.kernel_size = odd_width(self.name, "kernel_size", kernel_size)
        channels = geometry.num_heads * geometry.value_dim
        convolution = nn.Conv2d if dims == 2 else nn.Conv1d
        self.conv = convolution(
            channels, channels, kernel_size, padding=kernel_size // 2, groups=channels
        )

    @in_wide_precision
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, H, N, D), (B, H, N, D), (B, H, N, E) -> (B, H, N, E)."""
        if self.dims == 2:
            fills_grid(self.name, v.shape[-2], self.geometry.grid)
        channels = v.transpose(-2, -1).flatten(1, 2)  # (B, H E, N)
        weight, bias = self._wide_parameters(v.dtype)
        settings = {"padding": self.kernel_size // 2, "groups": len(weight)}
        if self.dims == 1:
            out = functional.conv1d(channels, weight, bias, **settings)
        else:
            image = torch.unflatten(channels, -1, self.geometry.grid)
            out = functional.conv2d(image, weight, bias, **settings).flatten(2)
        # Contiguous: the strides of a view would be left to whoever reads it.
        return torch.unflatten(out, 1, v.shape[1:4:2]).transpose(-2, -1).contiguous()

    def _wide_parameters(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        assert self.conv.bias is not None
        return widen(self.conv.weight).to(dtype), widen(self.conv.bias).to(dtype)

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Tap by tap."""
        rows, columns = self.geometry.grid if self.dims == 2 else (1, v.shape[-2])
        weight, bias = self._wide_parameters(v.dtype)
        kernel = torch.unflatten(weight[:, 0], 0, (v.shape[1], -1))  # (H, E, taps..)
        if self.dims == 1:
            kernel = kernel.unsqueeze(2)
        image = torch.unflatten(v, 2, (rows, columns))  # (B, H, rows, columns, E)
        down, across = (size // 2 for size in kernel.shape[-2:])
        padded = functional.pad(image, (0, 0, across, across, down, down))
        out = torch.unflatten(bias, 0, (v.shape[1], -1))[:, None, None].expand_as(image)
        for i in range(kernel.shape[-2]):
            for j in range(kernel.shape[-1]):
                shifted = padded[:, :, i : i + rows, j : j + columns]
                out = out + shifted * kernel[:, None, None, :, i, j]
        return out.flatten(2, 3)

    def flops(self, shape: CallShape) -> int:
        """The convolution."""
        return (
            2
            * shape.num_keys
            * shape.value_dim
            * self.kernel_size
            * (self.kernel_size if self.dims == 2 else 1)
        )
