"""Linear attention with elu + 1 features, and its two causal forms."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .. import _official
from .._engine import attention_by_tiles
from .._engine_causal import causal_flops
from .._engine_elu import EluPlusOne
from .._engine_forms import by_tiles, known_form, official_layout, refuse_mask
from .._engine_kernel import Kernel
from ..base import Attention, CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import equal_lengths, positive
from ..maths.feature_maps import elu_plus_one
from ..maths.kernel_attention import (
    KernelState,
    causal_kernel_attention,
    chunked_kernel_flops,
    kernel_attention,
    kernel_flops,
)
from ..maths.masks import hide_keys
from ..precision import in_wide_precision, wide_dtype, widen, without_autocast
from ..registry import register_attention


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
        implementation: ``"auto"``, ``"plain"``, or ``"official"``: the authors' operators, which
            take no mask. Their causal product is compiled C++ and has no such form.
    """

    def __init__(self, geometry: Geometry, eps: float = 1e-6, implementation: str = "auto") -> None:
        super().__init__(geometry)
        self.eps = positive(self.name, "eps", eps)
        self.implementation = known_form(self.name, implementation)
        if implementation == "official":
            if geometry.causal:
                raise ValueError(
                    f"{self.name}: implementation is 'official' and the geometry causal; 'auto' or "
                    "'plain' is needed, as the authors' causal product is compiled C++."
                )
            official_layout(self, "bnhd")

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, key_mask: Tensor | None = None) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        if self.geometry.causal:
            equal_lengths(self.name, q, k, "the causal form")
        if self.implementation == "official":
            refuse_mask(self.name, key_mask)
            tokens_first = (x.transpose(1, 2) for x in (q, k, v))
            return _official.linear(*tokens_first, eps=self.eps).transpose(1, 2)
        if by_tiles(self.implementation, key_mask, q, k, v):
            return attention_by_tiles(self._kernel(), q, k, v, plain=self._plain)
        return self._plain(q, k, v, key_mask=key_mask)

    @in_wide_precision
    def _plain(self, q: Tensor, k: Tensor, v: Tensor, *, key_mask: Tensor | None = None) -> Tensor:
        phi_q = elu_plus_one(q)  # Eq. 7
        phi_k = hide_keys(self.name, elu_plus_one(k), key_mask)
        if not self.geometry.causal:
            return kernel_attention(phi_q, phi_k, v, self.eps)  # Eq. 5
        return causal_kernel_attention(phi_q, phi_k, v, self.eps)[0]  # Eq. 9-12

    def _kernel(self) -> Kernel:
        features, causal = EluPlusOne(), self.geometry.causal
        dim = self.geometry.head_dim
        return Kernel(
            queries=features, keys=features, num_features=dim, eps=self.eps, causal=causal
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
        if not shape.causal:
            return self.flops(shape)
        chunked = causal_flops if self.implementation == "auto" else chunked_kernel_flops
        return chunked(shape, shape.head_dim)
