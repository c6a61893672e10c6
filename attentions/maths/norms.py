"""Norms over the last axis, computed in the dtype of their input."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from ..precision import widen

Norm = nn.RMSNorm | nn.LayerNorm


def normalise(x: Tensor, norm: Norm) -> Tensor:
    """``norm(x)``, with weights in the dtype of x: it may be wider than the module."""
    weight = widen(norm.weight).to(x.dtype)
    sizes = list(norm.normalized_shape)
    if isinstance(norm, nn.RMSNorm):
        return functional.rms_norm(x, sizes, weight, norm.eps)
    return functional.layer_norm(x, sizes, weight, widen(norm.bias).to(x.dtype), norm.eps)


def reference_normalise(x: Tensor, norm: Norm) -> Tensor:
    """The same, written out."""
    assert norm.eps is not None
    if isinstance(norm, nn.LayerNorm):
        x = x - x.mean(dim=-1, keepdim=True)
    normed = x / (x.pow(2).mean(dim=-1, keepdim=True) + norm.eps).sqrt() * norm.weight
    return normed + norm.bias if isinstance(norm, nn.LayerNorm) else normed
