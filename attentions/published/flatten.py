"""FLatten as its authors' code computes it, as a core and as the whole layer."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..base import Geometry
from ..capabilities import Capabilities
from ..checks import fills_grid
from ..maths.grid import convolve_on_grid, image_of, tokens_of
from ..maths.heads import merge_heads, split_heads
from ..mechanisms.flatten import Flatten
from ..mechanisms.flatten_layer import FlattenLayer
from ..registry import register_attention
from .entry import PublishedCore, PublishedLayer
from .mean_weights import averaged

_SOURCE = "LeapLabTHU/FLatten-Transformer, flatten_pvt.py and flatten_swin.py, commit abdb115f"


def _attention(q: Tensor, k: Tensor, v: Tensor, scale: Tensor, factor: float, eps: float) -> Tensor:
    """(B, N, C), (B, M, C), (B, H, M, D) -> (B, H, N, D): all channels, and then heads."""
    scale = functional.softplus(scale)
    phi_q, phi_k = (split_heads(_focused(x, scale, factor, eps), v.shape[1]) for x in (q, k))
    return averaged(phi_q, phi_k, v, eps)


def _focused(x: Tensor, scale: Tensor, factor: float, eps: float) -> Tensor:
    x = (x.relu() + eps) / scale
    length = x.norm(dim=-1, keepdim=True)
    x = x**factor
    focused: Tensor = x / x.norm(dim=-1, keepdim=True) * length
    return focused


@register_attention(
    "flatten_published",
    title="FLatten, published operators",
    source=_SOURCE,
    family="published",
    capabilities=Capabilities(
        cross=True, heads_independent=False, memory_layout="bnhd", dtypes=("float32", "float64")
    ),
)
class FlattenPublished(PublishedCore):
    """`flatten` by its authors' operators, on tokens of all channels: (B, N, H * D).

        phi(x) = f_p((relu(x) + eps) / softplus(scale)),  f_p(x) = ||x|| x^p / ||x^p||
        out_i  = mean_j phi(q_i) . phi(k_j) v_j / (mean_j phi(q_i) . phi(k_j) + eps)

    Hazards:
        - Powers of the floor, ``eps``, are (1e-6)^3: zero in float16, where a row without a
          positive entry is then 0 / 0.
        - Cubes overflow float32 from norms of about 1e13 on.

    Differences:
        - `flatten` computes half inputs in float32, takes masks, and norms per head if asked to.

    Args:
        geometry: the shape to build for.
        focusing_factor: p.
        eps: the floor of phi's input, and added to the mean weight.
    """

    ours: Flatten

    def __init__(self, geometry: Geometry, focusing_factor: float = 3, eps: float = 1e-6) -> None:
        super().__init__(geometry)
        self.ours = Flatten(geometry, focusing_factor=focusing_factor, eps=eps)
        self.focusing_factor, self.eps = focusing_factor, eps

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        tokens_q, tokens_k = merge_heads(q), merge_heads(k)
        return _attention(tokens_q, tokens_k, v, self.ours.scale, self.focusing_factor, self.eps)


@register_attention(
    "flatten_layer_published",
    title="FLatten layer, published operators",
    source=_SOURCE,
    family="published",
    capabilities=Capabilities(
        needs_grid=True,
        position_free=False,
        heads_independent=False,
        scopes=("layer",),
        dtypes=("float32", "float64"),
    ),
)
class FlattenLayerPublished(PublishedLayer):
    """`flatten_layer` by its authors' operators: values are convolved head by head, as images.

        out = proj(flatten(q, k + positional_encoding, v) + dwc(v))

    Hazards:
        - Those of its core, `flatten_published`.

    Differences:
        - `flatten_layer` convolves all heads together, channels last.

    Args:
        geometry: the shape to build for; value_dim must be head_dim.
        focusing_factor: p.
        eps: as for `FlattenPublished`.
        kernel_size: width of the depthwise kernels, odd.
        sr_ratio: r; must divide both sides of the grid.
        qkv_bias: whether q and kv have a bias.
    """

    ours: FlattenLayer

    def __init__(
        self,
        geometry: Geometry,
        focusing_factor: float = 3,
        eps: float = 1e-6,
        kernel_size: int = 5,
        sr_ratio: int = 1,
        qkv_bias: bool = True,
    ) -> None:
        super().__init__(geometry)
        self.ours = FlattenLayer(
            geometry,
            focusing_factor=focusing_factor,
            eps=eps,
            kernel_size=kernel_size,
            sr_ratio=sr_ratio,
            qkv_bias=qkv_bias,
        )
        self.focusing_factor, self.eps, self.sr_ratio = focusing_factor, eps, sr_ratio

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        ours, grid, heads = self.ours, self.geometry.grid, self.geometry.num_heads
        fills_grid(self.name, x.shape[1], grid)
        q, shrunk = ours.q(x), x
        if self.sr_ratio > 1:
            shrunk = ours.norm(tokens_of(ours.sr(image_of(x, grid))))
        k, v = ours.kv(shrunk).chunk(2, dim=-1)
        k = k + ours.positional_encoding
        values = split_heads(v, heads)
        mixed = merge_heads(_attention(q, k, values, ours.scale, self.focusing_factor, self.eps))
        if self.sr_ratio > 1:
            along = functional.interpolate(v.transpose(1, 2), size=x.shape[1], mode="linear")
            values = split_heads(along.transpose(1, 2), heads)
        restored = convolve_on_grid(values.flatten(0, 1), ours.dwc, grid)
        restored = merge_heads(torch.unflatten(restored, 0, values.shape[:2]))
        out: Tensor = ours.proj(mixed + restored)
        return out
