"""Linear attention with elu + 1 features, and its two causal forms."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .. import kernel
from ..base import Attention, CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import positive
from ..maths.feature_maps import elu_plus_one, elu_plus_one_by_hand
from ..maths.kernel_attention import KernelState, causal_kernel_attention, kernel_flops
from ..precision import wide_dtype, widen, without_autocast
from ..registry import register_attention

_FEATURES = kernel.FeatureMap(elu_plus_one, by_hand=elu_plus_one_by_hand)  # Eq. 7


@register_attention(
    "linear",
    title="Linear attention (elu + 1)",
    source="Katharopoulos et al., 2020, arXiv:2006.16236",
    family="kernel",
    capabilities=Capabilities(
        causal=True,
        cross=True,
        recurrent=True,
        masks=frozenset({"padding"}),
        exports=frozenset({"bidirectional"}),
    ),
)
class Linear(Attention):
    """phi(q) (phi(k)^T v) / (phi(q) . sum phi(k) + eps) with phi(x) = elu(x) + 1.

    No 1/sqrt(D) anywhere. A query whose keys are all hidden gets zeros.

    Hazards:
        - With features far below ``eps`` (entries under about -14 throughout) the output shrinks
          towards zero.
        - The sum of weights grows with the length and leaves float16's range at a few hundred
          tokens, so sums are float32.

    Differences:
        - The authors' causal product is compiled C++, its equal here are chunks and a recurrence.
        - There is no 1/sqrt(D) in paper or code.

    Args:
        geometry: the shape to build for.
        eps: added to the sum of weights.
    """

    def __init__(self, geometry: Geometry, eps: float = 1e-6) -> None:
        super().__init__(geometry)
        self.eps = positive(self.name, "eps", eps)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, key_mask: Tensor | None = None) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E); Eq. 5, causal Eq. 9-12."""
        return kernel.attend(
            q,
            k,
            v,
            queries=_FEATURES,
            keys=_FEATURES,
            eps=self.eps,
            causal=self.geometry.causal,
            key_mask=key_mask,
        )

    def init_state(
        self, batch_size: int, *, dtype: torch.dtype, device: torch.device
    ) -> KernelState:
        """Zeros, Eq. 16-17; float32 for half inputs, since thousands of terms are added to it."""
        g = self.geometry
        sizes = (batch_size, g.num_heads, g.head_dim, g.value_dim)
        return KernelState.empty(sizes, dtype=wide_dtype(dtype), device=device)

    def step(
        self, q: Tensor, k: Tensor, v: Tensor, state: KernelState
    ) -> tuple[Tensor, KernelState]:
        """The next T tokens: (B, H, T, D), (B, H, T, D), (B, H, T, E), state; Eq. 18-20."""
        with without_autocast(q.device.type):
            phi_q, phi_k = elu_plus_one(widen(q)), elu_plus_one(widen(k))
            out, state = causal_kernel_attention(phi_q, phi_k, widen(v), self.eps, state)
        return out.to(q.dtype), state

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Eq. 4 with the N x M similarities written out."""
        similarity = (functional.elu(q) + 1) @ (functional.elu(k) + 1).transpose(-2, -1)
        if self.geometry.causal:
            similarity = similarity.tril()
        return similarity @ v / (similarity.sum(dim=-1, keepdim=True) + self.eps)

    def flops(self, shape: CallShape) -> int:
        """Keys meet values, queries read, and the normaliser."""
        return kernel_flops(shape, shape.head_dim)

    def executed_flops(self, shape: CallShape) -> int:
        """The causal form also writes out the pairs within a chunk."""
        count = kernel.causal_flops if shape.causal else kernel_flops
        return count(shape, shape.head_dim)
