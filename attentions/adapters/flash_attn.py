"""Softmax attention by the package flash-attn."""

from __future__ import annotations

from torch import Tensor

from ..base import Geometry
from ..capabilities import Capabilities
from ..checks import one_of
from ..registry import register_attention
from .extras import load
from .fused_softmax import FusedSoftmax


@register_attention(
    "softmax_flash_attn",
    title="Softmax (flash-attn)",
    source="Dao, 2023, FlashAttention-2, arXiv:2307.08691",
    family="exact",
    capabilities=Capabilities(
        causal=True,
        cross=True,
        exact=True,
        memory_layout="bnhd",
        dtypes=("bfloat16", "float16"),
        devices=("cuda",),
        backward_devices=("cuda",),
        requires=("flash_attn",),
        compiles=False,
    ),
)
class SoftmaxFlashAttn(FusedSoftmax):
    """softmax(q k^T / sqrt(D)) v by ``flash_attn.flash_attn_func``.

    Hazards:
        - Half precision only, and values as wide as keys.

    Differences:
        - The kernel aligns a causal mask to the last query and key; N = M is asked for here, where
          both alignments are one.

    Args:
        geometry: the shape to build for; value_dim must be head_dim.
    """

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry)
        one_of(self.name, "geometry.value_dim", geometry.value_dim, (geometry.head_dim,))
        self._attention = load(self.name, "flash_attn", "flash_attn_func")

    def _kernel(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out: Tensor = self._attention(q, k, v, causal=self.geometry.causal)
        return out
