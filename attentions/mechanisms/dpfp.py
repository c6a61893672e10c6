"""Deterministic parameter-free projection: features are products of rectified channels."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import kernel
from ..base import Attention, CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import positive, whole
from ..maths.kernel_attention import KernelState, causal_kernel_attention, kernel_flops
from ..precision import wide_dtype, widen, without_autocast
from ..registry import register_attention


@register_attention(
    "dpfp",
    title="DPFP",
    source="Schlag et al., 2021, arXiv:2102.11174",
    family="kernel",
    capabilities=Capabilities(
        causal=True,
        cross=True,
        recurrent=True,
        masks=frozenset({"padding"}),
        exports=frozenset({"bidirectional"}),
    ),
)
class Dpfp(Attention):
    """Linear attention whose features are orthogonal for many more keys than there are channels.

        r(x) = [relu(x); relu(-x)]                                                   (2 D)
        phi(x)_{i + 2 D (s - 1)} = r_i r_{i - s},  s = 1 .. nu                   (2 D nu features)
        out_i = sum_j phi(q_i) . phi(k_j) v_j / (sum_j phi(q_i) . phi(k_j) + eps)

    with indices that wrap around. r has D zeros at least, so most products are zero: a query and a
    key may have no feature in common, and where a query shares none with any key it gets zeros.

    A query whose keys are all hidden gets zeros.

    Hazards:
        - A query that shares no feature with any key gets zeros, and so does one whose entries are
          all zero.

    Differences:
        - flash-linear-attention has -relu(x) for relu(-x), so that products are negative or cancel;
          ours is the paper's.

    Args:
        geometry: the shape to build for.
        nu: how many neighbours a channel is multiplied with. Below 2 D, where they would repeat.
        eps: added to the sum of weights.
    """

    def __init__(self, geometry: Geometry, nu: int = 1, eps: float = 1e-6) -> None:
        super().__init__(geometry)
        self.nu = whole(self.name, "nu", nu, 1)
        if nu >= 2 * geometry.head_dim:
            raise ValueError(
                f"{self.name}: nu is {nu}; a number below 2 head_dim, {2 * geometry.head_dim}, is "
                "needed."
            )
        self.eps = positive(self.name, "eps", eps)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, key_mask: Tensor | None = None) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        features = kernel.FeatureMap(self._features)
        return kernel.attend(
            q,
            k,
            v,
            queries=features,
            keys=features,
            eps=self.eps,
            causal=self.geometry.causal,
            key_mask=key_mask,
        )

    def _features(self, x: Tensor) -> tuple[Tensor, ...]:
        """(..., N, D) -> nu parts of (..., N, 2 D)."""
        halves = torch.cat((x.relu(), (-x).relu()), dim=-1)
        return tuple(halves * halves.roll(shift, dims=-1) for shift in range(1, self.nu + 1))

    def init_state(
        self, batch_size: int, *, dtype: torch.dtype, device: torch.device
    ) -> KernelState:
        """Zeros; float32 for half inputs."""
        g = self.geometry
        sizes = (batch_size, g.num_heads, self._num_features(g.head_dim), g.value_dim)
        return KernelState.empty(sizes, dtype=wide_dtype(dtype), device=device)

    def step(
        self, q: Tensor, k: Tensor, v: Tensor, state: KernelState
    ) -> tuple[Tensor, KernelState]:
        """The next T tokens: (B, H, T, D), (B, H, T, D), (B, H, T, E), state."""
        with without_autocast(q.device.type):
            phi_q, phi_k = (torch.cat(self._features(widen(x)), dim=-1) for x in (q, k))
            out, state = causal_kernel_attention(phi_q, phi_k, widen(v), self.eps, state)
        return out.to(q.dtype), state

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The N x M weights as a sum over pairs of channels."""
        r_q, r_k = (torch.cat((x.clamp(min=0), -x.clamp(max=0)), dim=-1) for x in (q, k))
        weights = q.new_zeros(*q.shape[:3], k.shape[2])
        for i in range(2 * q.shape[-1]):
            for shift in range(1, self.nu + 1):
                phi_q, phi_k = (r[..., i] * r[..., i - shift] for r in (r_q, r_k))
                weights = weights + phi_q[..., :, None] * phi_k[..., None, :]
        if self.geometry.causal:
            weights = weights.tril()
        return weights @ v / (weights.sum(dim=-1, keepdim=True) + self.eps)

    def _num_features(self, head_dim: int) -> int:
        return 2 * head_dim * self.nu

    def flops(self, shape: CallShape) -> int:
        """Kernel attention with 2 D nu features."""
        return kernel_flops(shape, self._num_features(shape.head_dim))

    def executed_flops(self, shape: CallShape) -> int:
        """The causal form also writes out the pairs within a chunk."""
        count = kernel.causal_flops if shape.causal else kernel_flops
        return count(shape, self._num_features(shape.head_dim))
