"""FLatten as its authors' code computes it, as a core and as the whole layer."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..checks import fills_grid
from ..maths.heads import merge_heads, split_heads
from ..maths.vision.grid import convolve_on_grid, image_of, tokens_of
from ..mechanisms.flatten import Flatten
from ..mechanisms.flatten_layer import FlattenLayer
from .entry import published
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


@published(
    "flatten",
    title="FLatten, published operators",
    source=_SOURCE,
    lacks=("norm_over",),
    memory_layout="bnhd",
)
def flatten_published(
    ours: Flatten, q: Tensor, k: Tensor, v: Tensor, *, focusing_factor: float, eps: float
) -> Tensor:
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
        focusing_factor: p.
        eps: the floor of phi's input, and added to the mean weight.
    """
    tokens_q, tokens_k = merge_heads(q), merge_heads(k)
    return _attention(tokens_q, tokens_k, v, ours.scale, focusing_factor, eps)


@published(
    "flatten_layer",
    title="FLatten layer, published operators",
    source=_SOURCE,
    lacks=("norm_over",),
)
def flatten_layer_published(
    ours: FlattenLayer, x: Tensor, *, focusing_factor: float, eps: float, sr_ratio: int
) -> Tensor:
    """`flatten_layer` by its authors' operators: values are convolved head by head, as images.

        out = proj(flatten(q, k + positional_encoding, v) + dwc(v))

    Hazards:
        - Those of its core, `flatten_published`.

    Differences:
        - `flatten_layer` convolves all heads together, channels last.

    Args:
        focusing_factor: p.
        eps: as for `FlattenPublished`.
        kernel_size: width of the depthwise kernels, odd.
        sr_ratio: r; must divide both sides of the grid.
        qkv_bias: whether q and kv have a bias.
    """
    ours, grid, heads = ours, ours.geometry.grid, ours.geometry.num_heads
    fills_grid("flatten_layer_published", x.shape[1], grid)
    q, shrunk = ours.q(x), x
    if sr_ratio > 1:
        shrunk = ours.reduced.norm(tokens_of(ours.reduced.sr(image_of(x, grid))))
    k, v = ours.kv(shrunk).chunk(2, dim=-1)
    k = k + ours.positional_encoding
    values = split_heads(v, heads)
    mixed = merge_heads(_attention(q, k, values, ours.core.scale, focusing_factor, eps))
    if sr_ratio > 1:
        along = functional.interpolate(v.transpose(1, 2), size=x.shape[1], mode="linear")
        values = split_heads(along.transpose(1, 2), heads)
    restored = convolve_on_grid(values.flatten(0, 1), ours.dwc, grid)
    restored = merge_heads(torch.unflatten(restored, 0, values.shape[:2]))
    out: Tensor = ours.proj(mixed + restored)
    return out
