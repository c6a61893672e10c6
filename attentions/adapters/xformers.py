"""Softmax attention by the package xformers."""

from __future__ import annotations

from torch import Tensor

from ..base import Geometry
from ..capabilities import Capabilities
from ..registry import register_attention
from .extras import load
from .fused_softmax import FusedSoftmax


@register_attention(
    "softmax_xformers",
    title="Softmax (xformers)",
    source="Rabe & Staats, 2021, arXiv:2112.05682; facebookresearch/xformers",
    family="exact",
    capabilities=Capabilities(
        causal=True,
        cross=True,
        exact=True,
        memory_layout="bnhd",
        dtypes=("float32", "bfloat16", "float16"),
        devices=("cuda",),
        backward_devices=("cuda",),
        requires=("xformers",),
        compiles=False,
    ),
)
class SoftmaxXformers(FusedSoftmax):
    """softmax(q k^T / sqrt(D)) v by ``xformers.ops.memory_efficient_attention``.

    Which of its kernels runs is the package's choice, by card, dtype and shape.

    Hazards:
        - Its documentation says that the operator may not be deterministic.

    Differences:
        - None in what is computed: the scale is 1/sqrt(D) in both.

    Args:
        geometry: the shape to build for.
    """

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry)
        self._attention = load(self.name, "xformers.ops", "memory_efficient_attention")
        self._causal_bias = load(self.name, "xformers.ops", "LowerTriangularMask")

    def _kernel(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        bias = self._causal_bias() if self.geometry.causal else None
        out: Tensor = self._attention(q, k, v, attn_bias=bias)
        return out
